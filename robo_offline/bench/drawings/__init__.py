"""Small figures of benchmarks, in the look of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robo_offline.report import plots
from robo_offline.report.plots import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Runs = Sequence[Mapping[str, Any]]  # of `bench intervention`, one per seed


def finetuning(task: str, ways: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Draw success (above) and the share of a person's steps (below) over robot minutes."""

    def draw(axes: Axes) -> None:
        figure = axes.get_figure()
        assert figure is not None
        figure.delaxes(axes)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        for tint, (way, seeds) in zip(plots.GROUPS, ways.items(), strict=False):
            for i, run in enumerate(seeds.values()):
                label = way.replace("_", " ") if i == 0 else None
                points = run["curve"]
                above.plot([p["minutes"] for p in points], [p["success"][0] for p in points],
                           "o-", color=tint, markersize=3, linewidth=1.4, label=label)  # fmt: skip
                below.plot([p["minutes"] for p in run["helped"]],
                           [100 * p["intervention"] for p in run["helped"]],
                           color=tint, linewidth=1.2)  # fmt: skip
        above.set_title(f"{task}: success in evaluations, %")
        above.set_ylim(-3, 103)
        above.legend(loc="best")
        below.set_title("steps of a person, %")
        below.set_xlabel("minutes of the robot")

    said = "; ".join(
        f"{way} ends at " + ", ".join(f"{run['final'][0]:g} %" for run in seeds.values())
        for way, seeds in ways.items()
    )
    with plots.drawing():
        return plots.picture(f"intervention-{task}", f"{task}: {said}", draw, plots.TALL)
