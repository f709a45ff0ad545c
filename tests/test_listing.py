"""The list of algorithms: what each is, needs and is for, read off its own file."""

from __future__ import annotations

import json

from robo_offline import cli, listing
from robo_offline.config import choices


def test_every_algorithm_is_listed_with_its_idea_and_its_paper(capsys):
    assert cli.main(["algos", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [name for name in choices("algo") if name != "base"]
    for row in rows:
        assert row["idea"] and row["paper"] and row["trains"], row["name"]
        assert row["phases"] in ("offline", "online", "both")


def test_what_an_algorithm_needs_is_said(capsys):
    assert "returns to go" in listing.describe("cal_ql")["needs"]
    assert "next actions" in listing.describe("rebrac")["needs"]
    assert "a data set" in listing.describe("prdc")["needs"]
    assert listing.describe("sac")["needs"] == ""
    assert listing.describe("gcivl")["needs"] == "a data set, goals"
    assert listing.describe("hiql")["needs"] == "a data set, goals, subgoals"


def test_what_learns_without_goals_is_told_from_what_does_not():
    names = listing.without_goals()
    assert {"iql", "sac", "td3_sil"} <= set(names)
    assert not {"base", "gcbc", "gciql", "hiql", "crl", "qrl", "actionable_models"} & set(names)


def test_a_paper_is_its_first_author_year_and_number():
    text = "Kostrikov, Nair, Levine. Offline RL. ICLR 2022 (arXiv 2110.06169). Followed: theirs."
    assert listing.paper(text) == "Kostrikov 2022 2110.06169"
    assert listing.paper("Pomerleau 1991; settings of CORL, 2022 (arXiv 2210.07105)") == (
        "Pomerleau 1991"
    )
    assert listing.paper("") == ""


def test_what_is_said_of_phases_is_said_of_algorithms_that_exist():
    assert {*listing.OFFLINE, *listing.ONLINE} <= set(choices("algo"))
    assert not set(listing.OFFLINE) & set(listing.ONLINE)


def test_the_table_has_a_dash_where_nothing_is_known(capsys):
    assert cli.main(["algos"]) == 0
    assert "iql" in capsys.readouterr().out
