"""The page of a deployment: what a policy did on a robot, in the look of the runs' report."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from robo_offline.errors import UserError
from robo_offline.loggers.text import between, percent
from robo_offline.report import plots
from robo_offline.report.background import source_of
from robo_offline.report.html import Html, element, join, section, table, text, value
from robo_offline.report.plots import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADOW = "shadow"
NEEDED = {"stage", "robot", "episodes", "success", "outcomes", "tick_late_ms"}
TICKS_NOTE = (
    "How late each step of the policy's schedule came. The schedule is absolute: a late step "
    "makes no later one late."
)


def write(report: Path, episodes: Path | None = None, video: Path | None = None) -> Path:
    """Write the page beside a deployment's report (JSON) and return its path.

    `episodes` is the folder of what was lived through, where the limits' verdicts are read from.
    """
    found = _read(report)
    page = report.with_suffix(".html")
    with plots.drawing():
        body = _body(found, _reasons(episodes), video, page.parent)
    resources = files("robo_offline.report")
    content = Template((resources / "template.html").read_text("utf-8")).substitute(
        title=text(f"{found['stage'].capitalize()} on {found['robot']}"),
        style=(resources / "style.css").read_text("utf-8"),
        subtitle=text(_subtitle(found)),
        body=body,
    )
    part = page.with_name(page.name + ".part")
    part.write_bytes(content.encode("utf-8", "replace"))
    os.replace(part, page)
    return page


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
        missing = NEEDED - set(found)
    except (OSError, ValueError, TypeError) as error:
        raise UserError("the report cannot be read", where=path, found=error) from None
    if missing:
        raise UserError(
            "this is no report of a deployment", where=path, expected=", ".join(sorted(missing))
        )
    return found


def _subtitle(found: Mapping[str, Any]) -> str:
    rate = f"{found['nominal_hz']:g} Hz"
    return f"{found['episodes']} episodes at {rate} · {found['descriptor'][:12]}"


def _body(
    found: Mapping[str, Any], reasons: Mapping[str, int], video: Path | None, folder: Path
) -> Html:
    outcomes = found["outcomes"]
    figures = [_figure(draw) for draw in (_ticks(found), _latencies(outcomes), _told(outcomes))]
    shown = element("div", *filter(None, figures), kind="two") if any(figures) else Html("")
    return join(
        [
            section("At a glance", _cards(found)),
            section("Time", shown, note=TICKS_NOTE),
            section("Latencies", _times(found)),
            section("Verdicts", _verdicts(found, reasons)),
            section("Video", _video(video, folder), note=VIDEO_NOTE),
            section("Episodes", _episodes(outcomes)),
        ]
    )


VIDEO_NOTE = "Drawn from the joint angles that were measured, or what the robot's camera saw."


def _cards(found: Mapping[str, Any]) -> Html:
    rate, low, high = found["success"]
    steps = sum(o["steps"] for o in found["outcomes"]) or 1
    cards = []
    if found["stage"] == SHADOW:
        far = found["shadow_difference"].get("p50")
        shown = "–" if far is None else f"{far:.3g}"
        cards.append(_card(shown, "median difference to who acted", "nothing was commanded"))
    elif rate is not None:
        cards.append(_card(percent(rate), "success", f"95 % interval {between(low, high)}"))
    rates = sorted(found["rate_hz"])
    if rates:
        middle = rates[len(rates) // 2]
        line = f"measured, median of the episodes; {found['nominal_hz']:g} were asked for"
        cards.append(_card(f"{middle:.2f}", "Hz", line))
    helped = found["interventions"]
    cards.append(_card(percent(helped / steps), "steps of a person", f"{helped} of {steps}"))
    if found["fell_back"]:
        cards.append(_card("replaced", "", f"by the certified policy {found['fell_back']}"))
    return element("div", *cards, kind="cards")


def _card(large: str, small: str, below: str) -> Html:
    figure = element("p", element("b", large), " ", element("span", small), kind="figure")
    return element("article", figure, element("p", below))


def _figure(drawn: Picture | None) -> Html:
    return element("figure", Html(drawn.svg)) if drawn else Html("")


def _ticks(found: Mapping[str, Any]) -> Picture | None:
    counts: Mapping[str, int] = found["tick_late_ms"]
    if not counts:
        return None
    labels = [name.removeprefix("<= ").replace("inf", "more") for name in counts]
    named = zip(labels, counts.values(), strict=True)
    said = ", ".join(f"{n} within {name} ms" for name, n in named)
    return _bars("ticks", "Steps by lateness, ms", said, labels, list(counts.values()))


def _latencies(outcomes: Sequence[Mapping[str, Any]]) -> Picture | None:
    values = [x for o in outcomes for x in o["latency_ms"]]
    if not values:
        return None

    def draw(axes: Axes) -> None:
        axes.hist(values, bins=30, color=plots.GROUPS[0])
        axes.set_title("The policy's answers, ms")

    alt = f"{len(values)} answers of the policy, between {min(values):.2g} and {max(values):.2g} ms"
    return plots.picture("latency", alt, draw)


def _told(outcomes: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw what part of each episode's steps was a person's, held, or changed by a limit."""
    parts = ("interventions", "held", "limited")
    if not any(o[key] for o in outcomes for key in parts):
        return None

    def draw(axes: Axes) -> None:
        for key, tint in zip(parts, plots.GROUPS, strict=False):
            shares = [100 * o[key] / max(1, o["steps"]) for o in outcomes]
            axes.plot(range(1, len(shares) + 1), shares, "o-", color=tint, label=key, markersize=3)
        axes.set_title("Steps that were not the policy's, %")
        axes.set_xlabel("episode")
        axes.legend(loc="best")

    totals = ", ".join(f"{key} {sum(o[key] for o in outcomes)}" for key in parts)
    return plots.picture("told", f"Steps by episode: {totals}", draw)


def _bars(name: str, title: str, alt: str, labels: Sequence[str], counts: Sequence[int]) -> Picture:
    def draw(axes: Axes) -> None:
        axes.bar(range(len(counts)), counts, color=plots.GROUPS[0])
        axes.set_xticks(range(len(counts)), list(labels))
        axes.set_title(title)

    return plots.picture(name, alt, draw)


def _times(found: Mapping[str, Any]) -> Html:
    named = {
        "answer of the policy, ms": found.get("latency_ms"),
        "lateness of a step, ms": _percentiles(
            [x for o in found["outcomes"] for x in o["late_ms"]]
        ),
    }
    rows = [
        [title, *(f"{numbers[p]:.3g}" for p in ("p50", "p99", "max"))]
        for title, numbers in named.items()
        if numbers
    ]
    return table("Latencies", ["", "median", "99 %", "worst"], rows) if rows else Html("")


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p99, most = np.percentile(values, [50, 99, 100])
    return {"p50": float(p50), "p99": float(p99), "max": float(most)}


def _verdicts(found: Mapping[str, Any], reasons: Mapping[str, int]) -> Html:
    stops = Counter(found["stops"])
    rows = [[f"stopped: {why}", f"{n}"] for why, n in stops.most_common()]
    rows += [[f"step {name}", f"{n}"] for name, n in reasons.items()]
    rows += [["steps that were held", str(found["held"])]]
    rows += [["steps that a limit changed", str(found["limited"])]]
    return table("Verdicts", ["", "times"], rows)


def _reasons(episodes: Path | None) -> dict[str, int]:
    """Count the steps by what the daemon's stages said of them."""
    if episodes is None or not episodes.is_dir():
        return {}
    from real_robot.episodes import lived
    from real_robot.verdict import Reason

    found: Counter[str] = Counter()
    for one in lived(episodes):
        for bits in one.steps["reason"].tolist():
            found.update(str(r.name).lower() for r in Reason if r and r & bits)
    return dict(found.most_common())


def _video(video: Path | None, folder: Path) -> Html:
    if video is None or not video.is_file():
        return Html("")
    source = source_of(video, folder)
    film = element("video", src=source, controls="", muted="", loop="", playsinline="",
                   preload="metadata", aria_label="the first episodes")  # fmt: skip
    return element("div", element("figure", film), kind="videos")


def _episodes(outcomes: Sequence[Mapping[str, Any]]) -> Html:
    head = ["episode", "ended", "steps", "Hz", "person", "held", "limited"]
    rows = [
        [
            str(i),
            value("success" if o["success"] else "no success", o["stop"]),
            str(o["steps"]),
            f"{o['rate_hz']:.2f}",
            str(o["interventions"]),
            str(o["held"]),
            str(o["limited"]),
        ]
        for i, o in enumerate(outcomes, 1)
    ]
    return table("Episodes", head, rows) if rows else Html("")


def film(
    episodes: Path, path: Path, draw: Callable[[Any], Iterable[Any]], most: int = 4
) -> Path | None:
    """Write a video of the first episodes; None where nothing can be drawn or written here."""
    from real_robot.episodes import lived
    from robo_offline.video import grid, write_video

    clips = []
    try:
        for one in lived(episodes):
            clips.append(list(draw(one)))
            if len(clips) == most:
                break
    except UserError:  # no renderer on this machine: everything but the video still works
        return None
    return write_video(path, grid(clips)) if clips else None
