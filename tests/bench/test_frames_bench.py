"""The memory benchmark of images: it counts what is held, and draws what it says."""

from __future__ import annotations

import json

from robo_offline import cli
from robo_offline.bench import frames


def test_it_counts_and_draws_in_memory_and_in_files(capsys):
    words = ["--transitions", "200", "--size", "32", "--frames", "2", "--batch", "8", "--json"]
    assert cli.main(["bench", "frames", *words]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for kind in ("memory", "mapped"):
        found = figures[kind]
        raw = 202 * 2 * 3 * 32 * 32  # with the last observations of two episodes
        assert raw < found["held_mib"] * 2**20 < 1.08 * raw
        assert found["sample_ms"] > 0 and found["plain_gather_ms"] > 0


def test_a_stack_of_more_frames_takes_no_more_memory():
    held = [frames.memory(frames.filled(200, 16, count), 200)["held_mib"] for count in (1, 4)]
    assert held[0] == held[1]
