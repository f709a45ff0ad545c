"""The page stands on its own, says what happened, and is written from whatever is there."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robo_offline.errors import UserError
from robo_offline.loggers.files import Files
from robo_offline.report import background, plots, write

VOID = {"meta", "br", "use", "path"}


class Page(HTMLParser):
    """Text, attributes and nesting of a page; a wrongly closed tag fails at once."""

    def __init__(self, path):
        super().__init__()
        self.words, self.attributes, self.tags, self.open = [], [], [], []
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the drawing, which is slow and tested on its own."""
    monkeypatch.setattr(
        plots, "picture", lambda name, alt, draw, size=None: plots.Picture(name, "<svg/>", b"", alt)
    )


def test_the_page_needs_nothing_outside_itself_and_its_figures_lie_beside_it(run):
    path = write([run])
    page = Page(path)
    assert path == run / "report" / "report.html"
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    sources = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert "@import" not in page.source and "url(h" not in page.source
    figures = {file.name for file in path.parent.glob("*.png")}
    assert {"success_rate.png", "return_mean.png", "handover.png", "training-0.png"} <= figures
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in path.parent.glob("*.png"))


def test_every_figure_has_a_name_for_those_who_cannot_see_it(run):
    page = Page(write([run]))
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == page.tags.count("svg")
    assert "Success rate over offline then online: IQL from 0.1 to 0.9" in labels


def test_the_ids_of_the_figures_never_collide(run):
    page = Page(write([run]))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', page.source)
    assert used and set(used) <= set(ids)


def test_the_figures_take_their_colours_from_the_page(run):
    page = Page(write([run]))
    drawings = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert "var(--g0)" in drawings and "var(--ink)" in drawings
    assert plots.GROUPS[0] not in drawings


def test_last_and_best_results_stand_with_their_intervals(tmp_path, undrawn, write_run):
    run = write_run(tmp_path / "run", online=(3, 19, 18))
    page = Page(write([run]))
    assert "90 % [70, 97]" in page.text  # last: 18 of 20
    assert "95 % [76, 99]" in page.text  # best: 19 of 20
    assert "−35 pts [−57, −6]" in page.text  # dip: 3 of 20 after 10 of 20


def test_seeds_are_grouped_and_different_settings_are_shown(tmp_path, undrawn, write_run):
    runs = [write_run(tmp_path / f"run-{seed}-{beta}", seed=seed, beta=beta)
            for beta in (3, 10) for seed in (0, 1, 2)]  # fmt: skip
    path = write(runs)
    page = Page(path)
    assert path == tmp_path / "report" / "report.html"
    assert page.text.count("3 seeds") == 4  # twice in a card, twice in the table
    assert "IQL · beta 3" in page.text and "IQL · beta 10" in page.text
    assert re.search(r"What differs .*algo\.beta 3 10 ", page.text)


def test_a_single_group_of_seeds_differs_in_nothing(tmp_path, undrawn, write_run):
    runs = [write_run(tmp_path / f"run-{seed}", seed=seed) for seed in (0, 1)]
    assert "What differs" not in Page(write(runs)).text


def test_markup_in_a_name_stays_text(tmp_path, undrawn, write_run):
    run = write_run(tmp_path / "run", algo='<script>alert("x")</script>', beta="'<img src=x>'")
    files = Files(run)
    files.log({"phase": "offline", "step": 400, "offline/<b>loss": 1.0})
    files.finish()
    page = Page(write([run]))
    assert not {"script", "img", "b"} & (set(page.tags) - {"b"}) and page.tags.count("b") == 1
    assert '<script>alert("x")</script>' in page.text


def test_a_metric_with_a_strange_name_is_drawn(tmp_path, write_run):
    run = write_run(tmp_path / "run", algo="方法 $x_{$")
    files = Files(run)
    files.log({"phase": "offline", "step": 400, "offline/\x00$\\frac{</svg><i>損失 loss": 1.0})
    files.finish()
    page = Page(write([run]))
    assert "could not be drawn" not in page.text and "損失 loss" in page.text


def test_a_folder_that_is_no_run_is_refused_and_the_runs_inside_are_named(tmp_path, run):
    with pytest.raises(UserError, match="give one of the runs inside: iql-0"):
        write([tmp_path])
    with pytest.raises(UserError, match="nothing there"):
        write([tmp_path / "absent"])
    with pytest.raises(UserError, match="no run to report on"):
        write([])


def test_the_page_goes_where_it_is_asked_to(tmp_path, run, undrawn):
    assert write([run], tmp_path / "a" / "page.html") == tmp_path / "a" / "page.html"
    assert write([run], tmp_path / "b") == tmp_path / "b" / "report.html"


def test_a_run_without_evaluations_still_gets_its_report(run, undrawn):
    (run / "evaluations.jsonl").unlink()
    page = Page(write([run]))
    assert "evaluations.jsonl is missing" in page.text and "no evaluations yet" in page.text
    assert "Training" in page.text and "Handover" not in page.text


def test_what_is_missing_torn_or_not_a_number_is_said(run, undrawn):
    (run / "summary.json").unlink()
    (run / "config.yaml").write_text("a: [1, ")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "online", "step": 400, "online/critic/loss": NaN}\n')
        file.write('{"step": 500}\n{"phase": "onl')
    text = Page(write([run])).text
    assert "the run has not finished" in text
    assert "config.yaml does not hold a mapping" in text
    assert "metrics.jsonl: 1 line is torn" in text
    assert "metrics.jsonl: 1 line is without a phase and step" in text
    assert "online/critic/loss is NaN, infinite or beyond 1e30 in 1 row" in text
    assert "first at online step 400" in text


def test_a_run_stopped_between_its_phases_has_not_finished(run, undrawn):
    (run / "summary.json").write_text(json.dumps({"finished": ["offline"]}))
    assert "the run has not finished" in Page(write([run])).text


def test_seeds_with_different_numbers_of_episodes_are_warned_about(tmp_path, undrawn, write_run):
    runs = [write_run(tmp_path / f"run-{n}", seed=n, episodes=n) for n in (20, 50)]
    text = Page(write(runs)).text
    assert "different numbers of episodes in their last evaluation: 20 and 50" in text


def test_small_videos_are_in_the_page_and_large_ones_are_linked(
    run, undrawn, monkeypatch, evaluation
):
    (run / "videos").mkdir()
    (run / "videos" / "the end.mp4").write_bytes(b"film")
    files = Files(run)
    files.evaluation(evaluation("online", 400, 19, video="videos/the end.mp4"))
    files.evaluation(evaluation("online", 500, 19, video="videos/gone.mp4"))
    files.finish()

    def source():
        found = Page(write([run])).attributes
        return [value for tag, name, value in found if (tag, name) == ("video", "src")]

    assert source() == []  # the latest one is gone
    (run.parent / "secret.mp4").write_bytes(b"not of this run")
    (run / "videos" / "gone.mp4").write_bytes(b"film")
    assert source() == ["data:video/mp4;base64,ZmlsbQ=="]
    monkeypatch.setattr(background, "MOST_VIDEO_BYTES", 4)
    (run / "videos" / "gone.mp4").rename(run / "videos" / "the end.mp4")
    files = Files(run)
    files.evaluation(evaluation("online", 500, 19, video="videos/the end.mp4"))
    files.finish()
    assert source() == ["../videos/the%20end.mp4"]
    files = Files(run)
    for i, odd in enumerate(("../secret.mp4", "x" * 5000, "a\0b")):
        files.evaluation(evaluation("online", 600 + i, 19, video=odd))
        assert source() == []
    files.finish()


def test_returns_alone_make_a_report_too(tmp_path, undrawn, write_run, evaluation):
    run = write_run(tmp_path / "run")
    rows = [evaluation("offline", step, 5) for step in (1, 2)]
    gone = {"successes": None, "success_rate": None, "success_low": None, "success_high": None}
    (run / "evaluations.jsonl").write_text("".join(json.dumps(r | gone) + "\n" for r in rows))
    text = Page(write([run])).text
    assert "10 return" in text and "Handover" not in text


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6))
json_like = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = ["phase", "step", "time", "update", "episodes", "successes", "success_rate", "success_low",
        "return_mean", "video", "offline/loss", "rate/updates_per_second"]  # fmt: skip
row = st.one_of(
    st.dictionaries(st.sampled_from(keys), json_like),
    st.fixed_dictionaries(
        {"phase": st.sampled_from(["offline", "online", "a/b"]), "step": st.integers(0, 50)},
        optional=dict.fromkeys(keys[2:], json_like),
    ),
    json_like,
)
lines = st.lists(st.one_of(row.map(json.dumps), st.text(max_size=10)), max_size=6).map("\n".join)
info_keys = ["name", "seed", "algo", "env", "dataset", "host", "versions", "argv", "created",
             "where", "finished"]  # fmt: skip
objects = st.one_of(
    st.dictionaries(st.sampled_from(info_keys), json_like).map(json.dumps),
    json_like.map(json.dumps),
    st.text(max_size=20),
)
mangled = st.fixed_dictionaries(
    {},
    optional={
        "run.json": objects,
        "config.yaml": objects,
        "timing.json": objects,
        "summary.json": objects,
        "metrics.jsonl": lines,
        "evaluations.jsonl": lines,
    },
).filter(lambda files: set(files) - {"timing.json", "summary.json"})


@pytest.fixture(scope="module")
def undrawn_module():
    patch = pytest.MonkeyPatch()
    patch.setattr(
        plots, "picture", lambda name, alt, draw, size=None: plots.Picture(name, "<svg/>", b"", alt)
    )
    yield
    patch.undo()


@settings(max_examples=80, deadline=None)
@given(st.lists(mangled, min_size=1, max_size=2))
def test_no_content_of_a_run_directory_keeps_the_report_from_being_written(
    tmp_path_factory, undrawn_module, contents
):
    root = tmp_path_factory.mktemp("runs")
    for i, files in enumerate(contents):
        (root / str(i)).mkdir()
        for name, content in files.items():
            (root / str(i) / name).write_text(content, "utf-8", "replace")
    Page(write([root / str(i) for i in range(len(contents))]))


@pytest.mark.parametrize("values", [[1e29, -1e29], [0.0, 1e-320], [5.0], [1.0] * 3])
def test_extreme_metrics_are_drawn_or_said_to_be_undrawable(tmp_path, values, evaluation):
    (tmp_path / "run").mkdir()
    files = Files(tmp_path / "run")
    for i, value in enumerate(values):
        files.log({"phase": "offline", "step": i, "offline/loss": value})
        files.evaluation(evaluation("offline", i, 3, return_mean=value))
    files.finish()
    page = Page(write([tmp_path / "run"]))
    assert page.tags.count("svg") == 3 or "could not be drawn" in page.text
