"""The README's table: made from what was found last, and up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robo_offline import bench, cli
from robo_offline.bench import jobs, table
from robo_offline.errors import UserError

PACKAGE = Path(bench.__file__).parent
README = Path(__file__).parents[2] / "README.md"


def test_the_readme_says_what_was_found_last(monkeypatch):
    monkeypatch.setattr(jobs, "BENCH", PACKAGE)
    text = README.read_text()
    assert table.replaced(text, table.render()) == text, "run `robo-offline bench table`"


@pytest.fixture
def found(nothing_found):
    suite = {
        "measured": "2026-01-02T03:04:05",
        "summary": {
            "maze": {
                "iql": {"offline": {"last": [40, 30, 50]}, "online": {"last": [90, 80, 95]}},
                "rlpd": {"online": {"last": [70, 60, 80]}},
            },
            "hopper": {"iql": {"offline": {"last": [55.4, 50, 60]}}},
        },
    }
    verdict = {"ours": [40, 30, 50], "theirs": [35, 20, 45], "verdict": "overlap"}
    peers = {"measured": "2026-01-03T00", "summary": {"maze": {"iql": verdict}}}
    speeds = {"ours_updates_per_second": 512.3, "times_d3rlpy": 3.4, "times_torchrl": 3.1}
    way = {"offline": [40, 30, 50], "dip": [-20, -30, -10], "final": [90, 80, 95], "seeds": 5}
    ways = {"naive": way, "ours": {**way, "dip": [-2, -5, 1]}}
    handover = {"measured": "2026-01-04T00", "summary": {"maze": {"iql": ways}}}
    files = {
        "suite": suite,
        "peers": peers,
        "updates": {"algos": {"iql": speeds}},
        "handover": handover,
    }
    for name, content in files.items():
        (nothing_found / f"{name}.json").write_text(json.dumps(content))


def test_scores_peers_speed_and_handover_stand_side_by_side(found):
    text = table.render()
    [iql] = [line for line in text.splitlines() if line.startswith("| `iql`")]
    assert "| 40 [30, 50] → 90 [80, 95] | 55 [50, 60] |" in iql
    assert "35 [20, 45], ours 40 [30, 50]: overlap" in iql
    assert iql.endswith("| 512 | d3rlpy 3.4, torchrl 3.1 |")
    [rlpd] = [line for line in text.splitlines() if line.startswith("| `rlpd`")]
    assert rlpd == "| `rlpd` | → 70 [60, 80] | – | – | – | – |"
    assert "| maze | `iql` | naive | 40 [30, 50] | -20 [-30, -10] | 90 [80, 95] | 5 |" in text
    assert "suite: 2026-01-02, peers: 2026-01-03" in text


def test_without_a_measurement_the_table_says_so():
    assert table.render() == table.NOTHING


def test_the_command_replaces_what_stands_between_the_markers_and_nothing_else(
    found, tmp_path, capsys
):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    assert cli.main(["bench", "table", "--readme", str(readme), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"]
    text = readme.read_text()
    assert text.startswith(f"before\n{table.BEGIN}\n| method |")
    assert text.endswith(f"{table.END}\nafter\n") and "old" not in text
    assert cli.main(["bench", "table", "--readme", str(readme), "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["changed"] and readme.read_text() == text


@pytest.mark.parametrize("text", ["", table.BEGIN, f"{table.END}\n{table.BEGIN}", table.BEGIN * 2])
def test_a_readme_without_a_place_for_it_is_refused(text):
    with pytest.raises(UserError, match="no place for the table"):
        table.replaced(text, "x")


def test_the_list_of_algorithms_shows_what_was_found(found, capsys):
    assert cli.main(["algos", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["iql"]["score"] == "maze 90 [80, 95]; hopper 55 [50, 60]"
    assert rows["iql"]["speed"] == "512 (3.4 x d3rlpy, 3.1 x torchrl)"
    assert rows["bc"]["score"] == rows["bc"]["speed"] == ""


def test_the_main_job_is_shown_seed_by_seed(nothing_found):
    run = {"curve": [[5000, 40], [50000, 97]]}
    found = {
        "measured": "2026-01-02T03",
        "summary": {
            "td3_sil": {
                "offline": [60, 55],
                "final": [0.97, 0.5],
                "reached_at_step": [50000, None],
                "worst_since": [0.97, None],
            },
            "bc": {
                "offline": [37],
                "final": [0.37],
                "reached_at_step": [None],
                "worst_since": [None],
            },
        },
        "runs": {"td3_sil": {"0": run, "1": run}, "bc": {"0": {"curve": []}}},
    }
    jobs.file_of("main_job").write_text(json.dumps(found))
    text = table.render()
    assert "| `td3_sil` | 60 %, 55 % | 97 %, 50 % | 50,000, never | 97 %, – |" in text
    assert "| `bc` | 37 % | – | – | – |" in text


def test_what_an_update_costs_is_read_downwards_from_the_cheapest(nothing_found):
    costs = {"bc": 3.04, "awac": 15.0, "cql": 160.2, "iql": 15.2}
    algos = {n: {"ms_per_update": ms, "peak_mib": ms, "load": ms} for n, ms in costs.items()}
    found = {"measured": "2026-01-02T03", "cost": {"algos": algos}}
    jobs.file_of("learner").write_text(json.dumps(found))
    lines = table.render().splitlines()
    assert lines[0] == "| method | ms | MiB | method | ms | MiB | method | ms | MiB |"
    assert lines[2] == "| `bc` | 3.0 | 3 | `iql` | 15.2 | 15 |  |  |  |"
    assert lines[3] == "| `awac` | 15.0 | 15 | `cql` | 160.2 | 160 |  |  |  |"
    assert "load was at most 160.2," in lines[-1]
