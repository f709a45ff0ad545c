"""The figures: drawn once, kept as SVG that follows the page's colours and as PNG for a paper."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from robo_offline.report.curves import Curve, Segment
from robo_offline.report.groups import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Drawn in the light palette; in the SVG each of these becomes the page's variable of that name.
INK = {"ink": "#1c1f24", "muted": "#6a717c", "line": "#dfe2e7", "shade": "#f3f4f7"}
# Okabe and Ito's colours, darkened where white behind them asks for it.
GROUPS = ("#0068a8", "#d2560a", "#00845f", "#b8568f", "#9c7400", "#3b8fc9")
DASHES = ("-", (0, (5, 1.6)), (0, (1.4, 1.4)))  # beyond six groups the colours come again, dashed
SIZE = (5.4, 3.3)  # inches: 389 points, so that 9.5 point type is legible on a phone too
SMALL = (3.6, 2.1)
TALL = (5.4, 4.4)  # beside a table of as many lines
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": INK["line"],
    "axes.labelcolor": INK["muted"],
    "axes.titlecolor": INK["ink"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": INK["line"],
    "grid.linewidth": 0.7,
    "xtick.color": INK["line"],
    "xtick.labelcolor": INK["muted"],
    "ytick.labelcolor": INK["muted"],
    "ytick.left": False,
    "text.color": INK["muted"],
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK["ink"],
    "svg.fonttype": "none",
    "svg.hashsalt": "robo_offline",  # the same run gives the same file
    "text.parse_math": False,  # a metric's name may hold a dollar sign
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
}


@dataclass(frozen=True)
class Picture:
    """A figure in both forms; `alt` says what it shows to those who cannot see it."""

    name: str
    svg: str
    png: bytes
    alt: str


@contextmanager
def drawing() -> Iterator[None]:
    """Use our style, and keep quiet about glyphs that a font lacks."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def colour(group: Group) -> str:
    return GROUPS[group.index % len(GROUPS)]


def picture(
    name: str, alt: str, draw: Callable[[Axes], None], size: tuple[float, float] = SIZE
) -> Picture:
    """Let `draw` fill one set of axes and keep the result."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.add_subplot())
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    figure.savefig(png, format="png", dpi=200, facecolor="white")
    return Picture(name, _inline(svg.getvalue().decode(), name, alt), png.getvalue(), alt)


def curves(
    name: str,
    title: str,
    alt: str,
    lines: Sequence[tuple[Group, Curve]],
    axis: dict[str, Segment],
    share: bool = False,
    size: tuple[float, float] = SIZE,
) -> Picture:
    """Draw one measure of every group over the phases."""

    def draw(axes: Axes) -> None:
        _phases(axes, axis, small=size == SMALL)
        for group, curve in lines:
            tint, dash = colour(group), DASHES[group.index // len(GROUPS) % len(DASHES)]
            axes.fill_between(curve.x, curve.low, curve.high, color=tint, alpha=0.16, linewidth=0)
            for x, y in curve.runs:
                axes.plot(x, y, color=tint, alpha=0.28, linewidth=0.8, linestyle=dash)
            mark: dict[str, Any] = (
                {"marker": "o", "markersize": 3.2} if 1 <= len(curve.x) <= 25 else {}
            )
            axes.plot(
                curve.x, curve.value, color=tint, linewidth=1.9, linestyle=dash,
                label=_short(group.label), solid_capstyle="round", **mark,
            )  # fmt: skip
        if share:
            _percent_axis(axes)
        axes.set_title(_short(title, 40))
        if len(lines) > 1 and size == SIZE:
            axes.legend(loc="best", handlelength=1.6, borderaxespad=0.2)

    return picture(name, alt, draw, size)


def handovers(
    alt: str, rows: Sequence[tuple[Group, Sequence[tuple[float, float, float] | None]]]
) -> Picture:
    """Draw success at the end of offline, at the online low and at the end, group by group."""

    def draw(axes: Axes) -> None:
        for place, (group, points) in enumerate(rows):
            shift = (place - (len(rows) - 1) / 2) * min(0.16, 0.5 / len(rows))
            there = [(x + shift, *point) for x, point in enumerate(points) if point is not None]
            tint = colour(group)
            axes.plot([p[0] for p in there], [p[1] for p in there], color=tint, linewidth=1.4)
            for x, value, low, high in there:
                axes.plot([x, x], [low, high], color=tint, linewidth=4, alpha=0.25)
                axes.plot([x], [value], "o", color=tint, markersize=6)
            axes.plot([], [], "o-", color=tint, label=_short(group.label))
        axes.set_xlim(-0.45, 2.45)
        axes.set_xticks([0, 1, 2], ["end of offline", "lowest online", "end of online"])
        axes.tick_params(axis="x", length=0, labelcolor=INK["ink"])
        _percent_axis(axes)
        axes.set_title("Success rate across the handover")
        if len(rows) > 1:
            axes.legend(loc="best", handlelength=1.6, borderaxespad=0.2)

    return picture("handover", alt, draw, TALL)


def _phases(axes: Axes, axis: dict[str, Segment], small: bool) -> None:
    """Mark where one phase hands over to the next, and count each in its own unit."""
    from matplotlib.ticker import MaxNLocator

    segments = list(axis.values())
    ticks: list[tuple[float, str]] = []
    bins = 3 if len(segments) > 1 else (4 if small else 6)
    for i, segment in enumerate(segments):
        end = segment.start + segment.width
        if segment.phase == "online":
            axes.axvspan(segment.start, end, color=INK["shade"], linewidth=0, zorder=0)
        if i:
            axes.axvline(segment.start, color=INK["muted"], linewidth=1, linestyle=(0, (3, 2)))
        steps = MaxNLocator(bins, steps=[1, 2, 5, 10], integer=True).tick_values(
            0, max(segment.extent, 1)
        )
        steps = [s for s in steps if (0 if i == 0 else 1) <= s <= max(segment.extent, 1)]
        ticks += [(float(segment.position(s)), brief(s)) for s in steps]
        if not small:
            axes.text(
                (segment.start + end) / 2, -0.135, f"{_short(segment.phase)} ({segment.unit})",
                transform=axes.get_xaxis_transform(), ha="center", va="top",
            )  # fmt: skip
    axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    if segments:
        axes.set_xlim(segments[0].start, segments[-1].start + segments[-1].width)
        axes.margins(y=0.08)


def _percent_axis(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])


def brief(step: float) -> str:
    """Write 20000 as 20k and 1500000 as 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{step / size:.3g}{letter}"
    return f"{step:.0f}"


def printable(text: str) -> str:
    """Replace what neither an SVG nor an HTML file may hold."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _short(text: str, most: int = 34) -> str:
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _inline(svg: str, name: str, alt: str) -> str:
    """Make a figure part of the page: its fonts and colours, ids of its own, a spoken name."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'xlink:href="#{name}-')
    svg = re.sub(r"font-family: [^;\"]+", "font-family: var(--sans)", svg)
    svg = re.sub(r"font: ([^;\"]*?[\d.]+px) [^;\"]+", r"font: \1 var(--sans)", svg)
    names = {tint: f"g{i}" for i, tint in enumerate(GROUPS)}
    for tint, variable in (names | {tint: key for key, tint in INK.items()}).items():
        svg = svg.replace(tint, f"var(--{variable})")
    opening, rest = svg.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)  # the page decides
    spoken = escape(printable(alt), quote=True)
    return f'{opening} role="img" aria-label="{spoken}">{rest}'
