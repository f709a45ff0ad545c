"""The pages say what is there: every method, every knob and value, every command, every link."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from functools import lru_cache
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from robo_offline import bench, cli, docs, listing
from robo_offline.config import choices, compose, expand
from robo_offline.data import _parser
from robo_offline.engine import divergence
from robo_offline.phases import run
from robo_offline.policies import guard

ROOT = Path(docs.__file__).parent
PAGES = docs.pages()
FAMILIES = ("imitation", "weighted", "constraint", "pessimism", "online", "goals")
ENTRIES = [(page, name) for page in FAMILIES for name in docs.entries(PAGES[page])]
METHODS = [name for name in choices("algo") if name != "base"]
READER = OverridesParser.create()
GROUPS = (
    "acting",
    "algo",
    "augment",
    "encoder",
    "env",
    "experiment",
    "goals",
    "learner",
    "phase",
    "replay",
)


@lru_cache
def shipped(override: str | None) -> dict[str, Any]:
    """Values by the path of their knob; of an algorithm its own alone, which is faster."""
    group, _, choice = (override or "").partition("=")
    if group == "algo":
        return dict(paths(compose((), f"algo/{choice}")))
    return dict(paths(compose([override] if override else [])))


def paths(node: DictConfig, prefix: str = ""):
    for key, value in node.items():
        yield (
            f"{prefix}{key}",
            OmegaConf.to_container(value) if OmegaConf.is_config(value) else value,
        )
        if isinstance(value, DictConfig):
            yield from paths(value, f"{prefix}{key}.")


def parts(page: str):
    """Each heading's text with the override that its title names, as `iql` or `acting=guard`."""
    for part in re.split(r"^(?=##+ )", PAGES[page], flags=re.MULTILINE):
        named = re.match(r"##+ `([\w=]+)`", part)
        if named is None:
            yield None, part
        elif "=" in named[1]:
            yield named[1], part
        else:
            yield f"{'algo' if named[1] in METHODS else 'experiment'}={named[1]}", part


PARTS = [
    pytest.param(override, part, id=f"{page}-{override or number}")
    for page in PAGES
    for number, (override, part) in enumerate(parts(page))
]


@lru_cache
def known() -> frozenset[str]:
    """The knobs of every choice that any page is about."""
    named = {override for page in PAGES for override, _ in parts(page)}
    return frozenset().union(*map(shipped, {*named, "encoder=drq", "encoder=r3m"}))


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", "".join(PAGES.values()), re.DOTALL)
    assert max(len(line) for line in "".join(blocks).splitlines()) <= docs.WIDE - 4
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    assert all(line.startswith("robo-offline ") for line in lines)
    return sorted({" ".join(line.split()[1:]) for line in lines})


# -- what is there ---------------------------------------------------------------------------


def test_every_method_has_its_entry_on_exactly_one_page():
    named = sorted(name for _, name in ENTRIES)
    assert named == sorted([*METHODS, "bc_top"])
    assert "bc_top" in choices("experiment")


@pytest.mark.parametrize(("page", "name"), ENTRIES)
def test_an_entry_says_when_and_when_not_and_how_to_start(page, name):
    entry = docs.entries(PAGES[page])[name]
    for said in ("- **Use it**", "- **Not**", "- **Needs:**", "```bash\nrobo-offline train "):
        assert said in entry
    assert re.search(rf"(algo|experiment)={name}\b", entry)
    assert len(re.findall(r"^- `", entry, re.MULTILINE)) >= 1


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_needs_of_a_batch_is_said(name):
    [entry] = [docs.entries(PAGES[page])[name] for page, method in ENTRIES if method == name]
    needs = " ".join(entry.partition("**Needs:**")[2].partition("```")[0].split())
    cls = listing.class_of(name)
    for extra, words in listing.NEEDS.items():
        assert (words in needs) == (extra in cls.needs), words
    studies = cls.study.__qualname__ != "Algorithm.study"
    if studies or shipped(f"algo={name}")["algo.data_range"]:
        assert "a data set" in needs


@pytest.mark.parametrize("name", METHODS)
def test_the_paper_of_a_method_stands_at_the_end_of_its_page(name):
    [page] = [page for page, method in ENTRIES if method == name]
    papers = PAGES[page].partition("\n## Papers\n")[2]
    assert f"`{name}`" in papers
    assert listing.describe(name)["paper"].split()[-1] in papers  # arXiv number, or a year


def test_every_page_is_reached_from_the_index_and_the_pages_from_the_readme():
    linked = set(re.findall(r"\]\((\w+)\.md\)", PAGES["index"]))
    assert linked == set(PAGES) - {"index"}
    assert "](robo_offline/docs/index.md)" in (ROOT.parents[1] / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_resolves(page):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        assert (ROOT / target).is_file(), target


def test_the_pages_travel_with_the_package():
    assert '"*.md"' in (ROOT.parents[1] / "pyproject.toml").read_text()


# -- what is said ----------------------------------------------------------------------------


@pytest.mark.parametrize(("override", "part"), PARTS)
def test_every_knob_that_is_named_exists(override, part):
    for word in code(part):
        named = re.fullmatch(
            r"((acting|algo|augment|encoder|evaluation|learner|phase|replay)\.[\w.]+)(=.*)?", word
        )
        if named:  # the entry of an algorithm names the knobs of no other
            one = named[2] == "algo" and (override or "").startswith("algo=")
            assert named[1] in (shipped(override) if one else known()), word


@pytest.mark.parametrize(("override", "part"), PARTS)
def test_the_value_at_the_head_of_a_line_is_the_shipped_one(override, part):
    values = shipped(None) | shipped(override)
    for head in re.findall(r"^- ((?:`[^`]+`(?:, and |, )?)+):", part, re.MULTILINE):
        for key, shown in re.findall(r"`([\w.]+)=([^`]+)`", head):
            assert READER.parse_override(f"x={shown}").value() == values[key], key


@pytest.mark.parametrize("page", PAGES)
def test_every_choice_that_is_named_exists(page):
    for group, choice in re.findall(rf"\b({'|'.join(GROUPS)})=([\w/]+)", PAGES[page]):
        assert choice in choices(group), f"{group}={choice}"


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[:60])
def test_every_command_is_one(command):
    verb, *arguments = shlex.split(command)
    assert verb in cli.VERBS
    if verb == "data":
        _parser().parse_args(arguments)
    if verb == "collect":
        compose(arguments, "collect")
    if verb == "train":
        if "--multirun" in arguments:
            arguments = expand([a for a in arguments if "=" in a])[0]
        compose(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_and_benchmark_in_a_sentence_is_there(page):
    benches = {module.name.replace("_", "-") for module in iter_modules(bench.__path__)}
    for verb, rest in re.findall(r"`robo-offline (\w+) ?([\w-]*)", PAGES[page]):
        assert verb in cli.VERBS
        assert verb != "bench" or rest in benches


def test_what_a_diverging_run_says_is_quoted_right():
    said = re.sub(r'"\s+"', "", inspect.getsource(divergence))
    table = PAGES["handover"].partition("| it says |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert len(rows) == 4 and [row for row in rows if row not in said] == []


def test_what_the_doctor_says_is_quoted_right():
    table = PAGES["data"].partition("| it says |")[2].partition("\n\n")[0]
    source = "".join(path.read_text() for path in (ROOT.parent / "datasets").glob("*.py"))
    codes = re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)
    assert len(codes) > 5 and [code for code in codes if f'"{code}"' not in source] == []


def test_the_numbers_of_a_handover_have_their_names_in_the_log():
    source = inspect.getsource(run) + inspect.getsource(guard)
    named = re.findall(r"`(?:handover|acting)/(\w+)`", PAGES["handover"])
    assert len(named) > 5 and [name for name in named if f'"{name}":' not in source] == []


def test_what_was_measured_is_what_was_found_last():
    job = json.loads((ROOT.parent / "bench" / "main_job.json").read_text())["summary"]
    pattern = r"^\| `(\w+)` \| (\d) \| ([\d to]+ %|–) \| ([\d to]+ %|–) \|$"
    rows = re.findall(pattern, PAGES["index"], re.MULTILINE)
    assert {method for method, *_ in rows} == set(job)
    for method, seeds, offline, online in rows:
        found = job[method]
        assert int(seeds) == found["seeds"]
        if offline != "–":
            assert offline == span(found["offline"]) + " %"
        if online != "–":
            assert online == span(round(100 * rate) for rate in found["final"]) + " %"
    speed = json.loads((ROOT.parent / "bench" / "updates.json").read_text())["algos"]
    rates = {name: row["ours_updates_per_second"] for name, row in speed.items()}
    told = "`td3_bc` {td3_bc:.0f}, `iql` {iql:.0f}, `sac_n` with 10 critics {sac_n-10:.0f}, "
    for page in ("index", "learner"):
        text = " ".join(PAGES[page].split())
        assert (told + "`cql` {cql:.0f}").format(**rates) in text


def span(values) -> str:
    low, *_, high = sorted([*values] * 2)
    return f"{low} to {high}" if low < high else f"{low}"


# -- how it is read --------------------------------------------------------------------------


def shown(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["docs", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_without_a_page_the_index_is_printed(capsys):
    status, out, _ = shown(capsys)
    assert status == 0 and "Which method, which knob" in out
    assert all(page in out for page in PAGES if page != "index")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_printed(capsys, monkeypatch, page):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = shown(capsys, page)
    title = PAGES[page].splitlines()[0].removeprefix("# ")
    assert status == 0 and title in out
    assert max(map(len, out.splitlines())) <= 80 and "```" not in out


def test_a_method_is_printed_without_its_neighbours(capsys):
    status, out, _ = shown(capsys, "iql")
    assert status == 0 and "algo.expectile=0.7" in out and "algo=awac" not in out


def test_an_unknown_page_is_told_by_the_nearest_one(capsys):
    status, out, err = shown(capsys, "handovr")
    assert (status, out) == (2, "")
    assert "there is no page 'handovr'" in err and "did you mean handover" in err
