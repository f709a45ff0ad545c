"""The measurement of hindsight draws both kinds of batches and compares like with like."""

from __future__ import annotations

import argparse

from robo_offline.bench import replay


def test_it_measures_every_case_against_the_same_rows():
    options = argparse.Namespace(rows=2100, state=5, batch_size=32, draws=3)
    for overrides, made_of, extras in replay.CASES.values():
        found = replay.relabelling(options, overrides, made_of, extras)
        assert found["ratio"] == round(found["ratio"], 3) > 0
        assert found["as collected, us"] > 0 and found["relabelled, us"] > 0


def test_its_rows_end_where_episodes_do():
    final = replay._rows(2100, 5, 2)["final"]
    assert final.nonzero().squeeze(-1).tolist() == [1000, 2001, 2099]
