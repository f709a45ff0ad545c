"""The page of a deployment: its figures, its verdicts, and nothing that a log could smuggle in."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from robo_offline.errors import UserError
from robo_offline.report import deployment


def outcome(**changes):
    known = {
        "policy": "a",
        "success": True,
        "steps": 20,
        "seconds": 1.0,
        "rate_hz": 19.98,
        "stop": "",
        "interventions": 0,
        "held": 0,
        "limited": 3,
        "latency_ms": [0.8, 1.2],
        "late_ms": [0.1, 0.3],
        "difference": [],
    }
    return known | changes


def report(path, **changes):
    outcomes = [outcome(), outcome(success=False, stop="contact: <b>43</b> N", interventions=5)]
    known = {
        "stage": "full",
        "robot": "sim",
        "descriptor": "0123456789abcdef",
        "episodes": 2,
        "success": [0.5, 0.0945, 0.9055],
        "stops": ["contact: <b>43</b> N"],
        "interventions": 5,
        "held": 0,
        "limited": 6,
        "rate_hz": [19.98, 19.98],
        "nominal_hz": 20.0,
        "tick_late_ms": {"<= 0.1": 2, "<= 1": 2, "<= inf": 0},
        "latency_ms": {"p50": 1.0, "p99": 1.2, "max": 1.2},
        "shadow_difference": {},
        "fell_back": "",
        "outcomes": outcomes,
    }
    path.write_text(json.dumps(known | changes))
    return path


def page(path, **parts):
    return deployment.write(path, **parts).read_text()


def test_the_page_says_what_happened(tmp_path):
    text = page(report(tmp_path / "0000.json"))
    for said in ("50 %", "19.98", "5 of 40", "Steps by lateness", "policy's answers", "Verdicts"):
        assert said.replace("'", "&#x27;") in text or said in text, said
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".part"] == []


def test_what_a_stop_says_is_escaped(tmp_path):
    text = page(report(tmp_path / "0000.json"))
    assert "<b>43</b>" not in text and "&lt;b&gt;43&lt;/b&gt;" in text


def test_every_figure_is_whole_and_says_what_it_shows(tmp_path):
    text = page(report(tmp_path / "0000.json"))
    figures = [part.split("</svg>")[0] + "</svg>" for part in text.split("<figure>")[1:]]
    assert len(figures) == 3
    for figure in figures:
        ElementTree.fromstring(figure)
        assert 'role="img"' in figure and "aria-label=" in figure
    assert "2 within 0.1 ms" in text


def test_a_shadow_shows_differences_and_no_success(tmp_path):
    changes = {"stage": "shadow", "shadow_difference": {"p50": 0.125, "p99": 1, "max": 1}}
    text = page(report(tmp_path / "0000.json", **changes))
    assert "0.125" in text and "nothing was commanded" in text and "95 % interval" not in text


def test_a_fall_back_is_told(tmp_path):
    text = page(report(tmp_path / "0000.json", fell_back="after 10 episodes"))
    assert "replaced" in text and "after 10 episodes" in text


def test_nothing_happened_is_a_page_too(tmp_path):
    empty = {"outcomes": [], "rate_hz": [], "stops": [], "tick_late_ms": {}, "latency_ms": {}}
    text = page(report(tmp_path / "0000.json", success=[None, 0.0, 1.0], episodes=0, **empty))
    assert "At a glance" in text and "<svg" not in text


def test_a_video_lies_within_the_page(tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"moving")
    assert "data:video/mp4;base64,bW92aW5n" in page(report(tmp_path / "0.json"), video=film)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stage": 1}', "not json"])
def test_what_is_no_report_is_named(tmp_path, content):
    path = tmp_path / "0000.json"
    path.write_text(content)
    with pytest.raises(UserError, match="report"):
        deployment.write(path)


def test_the_limits_verdicts_are_counted_and_the_episodes_filmed(tmp_path):
    pytest.importorskip("mujoco")
    import envs
    from real_robot.episodes import Kept

    env = Kept(envs.make("robot/rehearsal", horizon=4), tmp_path / "episodes")
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.array([0.0, 0.0, 1.0, 0.0]))
    env.close()
    drawn = []

    def draw(one):
        drawn.append(one.joints.shape)
        return [np.full((16, 16, 3), i, np.uint8) for i in range(3)]

    film = deployment.film(tmp_path / "episodes", tmp_path / "film.mp4", draw)
    assert drawn == [(5, 7)] and (film is None or film.stat().st_size > 0)
    text = page(report(tmp_path / "0.json"), episodes=tmp_path / "episodes", video=film)
    assert "Verdicts" in text
