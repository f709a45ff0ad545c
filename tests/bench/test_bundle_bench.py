"""The bundle benchmark: what it measures is what acts."""

from __future__ import annotations

import json
import time

import pytest

from robo_offline import cli
from robo_offline.bench import bundle


@pytest.mark.slow
def test_it_exports_acts_swaps_and_tells(capsys):
    words = ["--json", "--calls", "20", "--seconds", "0.1", "--swaps", "2"]
    assert cli.main(["bench", "bundle", *words]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for kind in ("mlp", "cnn"):
        found = figures[kind]
        assert max(found["parity"].values()) <= 1e-5
        assert 0 < found["swap_ms"] <= found["swap_ms_max"]
        assert found["onnxruntime"]["back_to_back"]["wall"]["calls"] == 20
        assert found["eager"]["paced_100hz"]["cpu"]["calls"] == 10
        assert found["target_met"].keys() == {"wall", "cpu"}


def test_paced_calls_keep_to_the_schedule():
    began = time.monotonic()
    found = bundle._times(lambda _: time.sleep(0.002), [{}], 5, 10_000_000)
    assert time.monotonic() - began >= 0.05
    assert found["wall"]["p50_us"] >= 2000 > found["cpu"]["p50_us"]
