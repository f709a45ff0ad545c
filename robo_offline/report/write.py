"""Write the report of one or many runs: one page that needs nothing else, and its figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from robo_offline.errors import UserError
from robo_offline.report import background, plots, results
from robo_offline.report.curves import (
    Curve,
    evaluation_curve,
    phase_axis,
    training_curve,
    training_metrics,
)
from robo_offline.report.groups import Group, group
from robo_offline.report.html import Html, details, element, join, section, text
from robo_offline.report.plots import Picture
from robo_offline.report.read import Record, read

MOST_LOSSES, MOST_OTHERS = 9, 12  # small figures; more would bury the ones that matter


def write(run_dirs: Sequence[Path | str], out: Path | str | None = None) -> Path:
    """Write the report and return the page's path.

    `out` is the page (*.html) or the folder for `report.html`; without it, `report/` inside the run
    or, for several runs, beside them. The figures go as PNG into the page's folder.
    """
    if not run_dirs:
        raise UserError(
            "there is no run to report on", expected="at least one run directory", found="none"
        )
    directories = list(dict.fromkeys(Path(directory).resolve() for directory in run_dirs))
    records = [read(directory) for directory in directories]
    page = _page_path(directories, out)
    page.parent.mkdir(parents=True, exist_ok=True)
    groups = group(records)
    problems = _problems(groups)
    with plots.drawing():
        pictures = _Pictures(page.parent, problems)
        body = _body(groups, pictures, problems)
    resources = files("robo_offline.report")
    content = Template((resources / "template.html").read_text("utf-8")).substitute(
        title=text(_title(groups)),
        style=(resources / "style.css").read_text("utf-8"),
        subtitle=text(_subtitle(records)),
        body=body,
    )
    part = page.with_name(page.name + ".part")
    part.write_bytes(content.encode("utf-8", "replace"))
    os.replace(part, page)
    return page


def _page_path(directories: Sequence[Path], out: Path | str | None) -> Path:
    if out is not None:
        path = Path(out)
        return path if path.suffix == ".html" else path / "report.html"
    home = directories[0]
    if len(directories) > 1:
        home = Path(os.path.commonpath([directory.parent for directory in directories]))
    return home / "report" / "report.html"


class _Pictures:
    """Draw figures, keep them beside the page, and turn a failure into a line in the report."""

    def __init__(self, folder: Path, problems: list[str]):
        self.folder, self.problems = folder, problems

    def curves(
        self, groups: Sequence[Group], name: str, title: str, small: Sequence[str] | None = None
    ) -> Html:
        """Draw an evaluation's measure, or the training metrics in `small`, for all groups."""
        runs = [run for one in groups for run in one.runs]
        if small is None:
            rows = [row for run in runs for row in run.evaluations if row[name] is not None]
        else:
            rows = [row for run in runs for row in run.metrics if any(n in row for n in small)]
        axis = phase_axis(rows)

        def curve(one: Group) -> Curve | None:
            if small is None:
                return evaluation_curve(one, axis, name)
            return training_curve(one, axis, small)

        lines = [(one, line) for one in groups if (line := curve(one)) is not None]
        if not lines:
            return Html("")
        alt = f"{title} over {' then '.join(axis)}: " + "; ".join(
            f"{one.label} from {line.value[0]:.3g} to {line.value[-1]:.3g}" for one, line in lines
        )
        size = plots.SIZE if small is None else plots.SMALL
        return self.keep(
            title,
            lambda: plots.curves(name, title, alt, lines, axis, name == "success_rate", size),
        )

    def handovers(self, found: Sequence[tuple[Group, list[results.Handover]]]) -> Html:
        rows = [
            (one, [results.level(many, name) for name in ("offline", "worst", "final")])
            for one, many in found
        ]
        alt = "Success rate at the end of offline, at its lowest online, and at the end: "
        alt += "; ".join(
            f"{one.label} " + ", ".join(f"{p.value:.0%}" for p in points if p is not None)
            for one, points in rows
        )
        return self.keep("the handover", lambda: plots.handovers(alt, rows))

    def keep(self, title: str, draw: Callable[[], Picture]) -> Html:
        try:
            drawn = draw()
        except (ArithmeticError, ValueError) as error:  # e.g. a metric that spans 10^60
            self.problems.append(f"{title} could not be drawn: {error}")
            return Html("")
        (self.folder / f"{drawn.name}.png").write_bytes(drawn.png)
        return element("figure", Html(drawn.svg))


def _body(groups: Sequence[Group], pictures: _Pictures, problems: list[str]) -> Html:
    found = results.handovers(groups)
    sections = [
        section("At a glance", results.cards(groups)),
        section("Learning curves", _learning(groups, pictures), note=_curve_note(groups)),
        section("Handover", _handover(found, pictures), note=HANDOVER_NOTE),
        section("Results", results.results_table(groups), note=_results_note(groups)),
        section("Videos", background.videos(groups, pictures.folder)),
        section("Training", _training(groups, pictures), note=_training_note(groups)),
        section("Where the time goes", background.timing(groups)),
        section("Settings", background.settings(groups)),
        section("Machine and versions", background.machine([r for g in groups for r in g.runs])),
    ]
    warnings = element("ul", *(element("li", one) for one in problems)) if problems else Html("")
    count = "1 thing" if len(problems) == 1 else f"{len(problems)} things"
    notice = element(
        "aside", details(f"{count} to know before you trust this", warnings), kind="warning"
    )
    return join([notice if problems else "", *sections])


HANDOVER_NOTE = (
    "Dip: the lowest online success rate minus the last one of offline, with Newcombe's interval "
    "for one run and a t interval over seeds. The lowest of many evaluations is low by chance too. "
    "Regret: the mean of 1 − success over the online evaluations."
)


def _learning(groups: Sequence[Group], pictures: _Pictures) -> Html:
    measures = {
        "success_rate": "Success rate",
        "return_mean": "Return",
        "normalised_score": "Normalised score",
    }
    figures = [pictures.curves(groups, name, title) for name, title in measures.items()]
    return element("div", *figures, kind="two") if any(figures) else Html("")


def _handover(found: Sequence[tuple[Group, list[results.Handover]]], pictures: _Pictures) -> Html:
    if not found:
        return Html("")
    parts = [pictures.handovers(found), results.handover_table(found)]
    return element("div", *parts, kind="beside")


def _training(groups: Sequence[Group], pictures: _Pictures) -> Html:
    metrics = training_metrics(groups)
    losses = [name for name in metrics if "loss" in name]
    others = [name for name in metrics if "loss" not in name]
    drawn = iter(range(len(metrics)))  # file names: a metric's own name may not be one

    def small(names: Sequence[str]) -> Html:
        figures = [
            pictures.curves(groups, f"training-{next(drawn)}", name, metrics[name])
            for name in names
        ]
        return element("div", *figures, kind="small") if any(figures) else Html("")

    first, second = small(losses[:MOST_LOSSES]), small(others[:MOST_OTHERS])
    left = len(losses[MOST_LOSSES:]) + len(others[MOST_OTHERS:])
    more = element("p", f"{left} more are in metrics.csv.", kind="note") if left else ""
    return join([first, details("Other metrics", second, more) if second else more])


def _curve_note(groups: Sequence[Group]) -> str:
    single = any(len(one.runs) == 1 for one in groups)
    several = any(len(one.runs) > 1 for one in groups)
    bands = ["the mean over seeds with its 95 % t interval (of two seeds, their range)"] * several
    bands += ["one run with its 95 % interval over episodes (Wilson for success)"] * single
    return "Bands: " + "; ".join(bands) + ". Each phase has its own scale; online is shaded."


def _results_note(groups: Sequence[Group]) -> str:
    seeds = any(len(one.runs) > 1 for one in groups)
    how = "over seeds (t), or over episodes for one run (Wilson)" if seeds else "Wilson"
    return (
        f"In brackets: 95 % intervals, {how}. “Best” is picked by the very episodes that it "
        "reports and so is optimistic; “last” is not."
    )


def _training_note(groups: Sequence[Group]) -> str:
    return "Averaged in bins" + (
        ", over seeds; the band is the range of the seeds."
        if any(len(one.runs) > 1 for one in groups)
        else "."
    )


def _problems(groups: Sequence[Group]) -> list[str]:
    """Return what a reader should know before trusting the numbers."""
    problems = [
        f"{run.name}: {said}" for one in groups for run in one.runs for said in run.problems
    ]
    for one in groups:
        ends = [results.last(run) or {} for run in one.runs]
        counted: dict[str, list[int | None]] = {
            "episodes in their last evaluation": [end.get("episodes") for end in ends],
            "evaluations": [len(run.evaluations) for run in one.runs],
            "env steps": [end.get("env_step") for end in ends],
        }
        for what, counts in counted.items():
            different = sorted({int(count) for count in counts if count is not None})
            if len(different) > 1:
                said = " and ".join(f"{count:,}" for count in different)
                problems.append(f"{one.label}: the seeds have different numbers of {what}: {said}")
        seeds = [run.seed for run in one.runs]
        if len(set(seeds)) < len(seeds):
            problems.append(f"{one.label}: a seed occurs twice ({one.seeds})")
    hosts = {str(run.info.get("host")) for one in groups for run in one.runs if run.info}
    if len(hosts) > 1:
        problems.append("the runs come from different machines: do not compare their speeds")
    return problems


def _title(groups: Sequence[Group]) -> str:
    if len(groups) == 1:
        return f"{groups[0].algo} on {groups[0].env}"
    envs = {one.env for one in groups}
    where = f" on {groups[0].env}" if len(envs) == 1 else f" on {len(envs)} tasks"
    algos: list[str] = list(dict.fromkeys(one.algo for one in groups))
    if len(algos) > 3:
        return f"{len(algos)} algorithms{where}"
    return " and ".join(filter(None, [", ".join(algos[:-1]), algos[-1]])) + where


def _subtitle(records: Sequence[Record]) -> str:
    datasets = list(dict.fromkeys(record.word("dataset", "") for record in records))
    parts = ["1 run" if len(records) == 1 else f"{len(records)} runs"]
    parts += [record.name for record in records[:1] if len(records) == 1]
    parts += ["from " + ", ".join(filter(None, datasets[:3]))] if any(datasets) else []
    created = sorted(str(r.info["created"])[:10] for r in records if r.info.get("created"))
    if created:
        same = created[0] == created[-1]
        parts.append(created[0] if same else f"{created[0]} to {created[-1]}")
    return " · ".join(parts)
