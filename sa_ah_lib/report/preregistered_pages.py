"""The preregistered comparisons as tables and one picture each. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sa_ah_lib.analysis import preregistered
from sa_ah_lib.analysis.seeds import METRICS, Comparison, outcome
from sa_ah_lib.report import forest
from sa_ah_lib.report.comparison_rows import save_comparisons
from sa_ah_lib.report.style import WIDTHS, caption, save_pictures, styled

STYLES = {
    "pass_at_1": {"color": "#0072B2", "marker": "o", "markersize": 4},
    "auc": {"color": "#D55E00", "marker": "s", "markersize": 4},
}
APART = {"pass_at_1": -0.15, "auc": 0.15}
"""Above and below the middle of a row."""


def plot(compared: dict[str, list[Comparison]], ax: Axes | None = None) -> Axes:
    """Forest plot: one row per comparison, both endpoints in points, with their intervals and the verdict beside.

    Args:
        compared: what ``preregistered.compared`` gives. ax: matplotlib axes; None makes new ones.
    """
    ax = ax or plt.subplots()[1]
    forest.no_difference(ax, "pass_at_1")
    sides = [
        (row + APART[endpoint], endpoint, one) for endpoint, found in compared.items() for row, one in enumerate(found)
    ]
    for place, endpoint, one in sides:
        forest.gain(ax, place, one, STYLES[endpoint])
    forest.rows(ax, [f"{one.first}\nagainst {one.second}" for one in next(iter(compared.values()))])
    ax.tick_params(axis="y", labelsize=6)
    forest.beside(ax, [(place, outcome(one).split(",")[0], STYLES[end]["color"]) for place, end, one in sides])
    ax.set_xlabel("gain (points); grey: margin")
    forest.key(ax, {METRICS[endpoint].label: STYLES[endpoint] for endpoint in compared}, columns=1)
    return ax


def picture(runs: Sequence[Any], name: str, width: str = "single") -> Figure | None:
    """The forest plot of one design, one or two journal columns wide, or None as long as a run is missing."""
    compared = preregistered.compared(runs, name)
    return None if compared is None else _drawn(compared, runs, name, width)


def _drawn(compared, runs, name, width):
    with styled():
        height = max(2.1, round(1 + 0.4 * len(compared["auc"]), 1))  # caption and key alone take 1.2 inches
        figure, ax = plt.subplots(figsize=(WIDTHS[width], height), layout="constrained")
        plot(compared, ax)
        bars = f"bars: 95% intervals over {preregistered.DESIGNS[name].over}"
        decided = f"{forest.DECIDED}; SA, AH: SA-AH-GRPO and AH-GRPO at α = 0.5"
        return caption(figure, f"Preregistered, {preregistered.measured(runs, name)}; {bars}; {decided}")


def save(runs: Sequence[Any], directory: str | Path, width: str = "single") -> list[Path]:
    """Write the tables of every design, and of each whose runs are all there a picture and its numbers; the paths."""
    paths = []
    for name in preregistered.DESIGNS:
        tables = [preregistered.table(runs, name, endpoint) for endpoint in preregistered.ENDPOINTS]
        paths += [path for table in tables for path in table.save(directory)]
        if compared := preregistered.compared(runs, name):
            paths += save_pictures(_drawn(compared, runs, name, width), directory, f"preregistered-{name}")
            comparisons = {preregistered.DESIGNS[name].scale: [one for ones in compared.values() for one in ones]}
            paths += save_comparisons(comparisons, directory, f"preregistered-{name}")
    return paths
