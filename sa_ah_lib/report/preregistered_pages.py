"""The preregistered comparisons as tables and one picture. Needs no torch.

``python -m sa_ah_lib.report.preregistered_pages figures/logs --out figures/preregistered``
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from sa_ah_lib.analysis import preregistered
from sa_ah_lib.analysis.loading import load
from sa_ah_lib.analysis.seeds import METRICS, Comparison, outcome
from sa_ah_lib.report.style import WIDTHS, caption, save_pictures, styled

STYLES = {"pass_at_1": ("#0072B2", "o", -0.15), "auc": ("#D55E00", "s", 0.15)}
"""{endpoint: colour, marker, place above or below the row's middle}."""


def plot(compared: dict[str, list[Comparison]], ax: Any = None) -> Any:
    """Forest plot: one row per comparison, both endpoints in points, with their intervals and the verdict beside.

    Args:
        compared: what ``preregistered.compared`` gives. ax: matplotlib axes; None makes new ones.
    """
    ax = ax or plt.subplots()[1]
    margin = 100 * METRICS["pass_at_1"].margin
    ax.axvspan(-margin, margin, color="0.92", zorder=0, linewidth=0)
    ax.axvline(0, color="0.35", linewidth=0.8, zorder=1)
    for endpoint, found in compared.items():
        colour, marker, place = STYLES[endpoint]
        for row, one in enumerate(found):
            gain = one.gain
            ax.plot([100 * gain.low, 100 * gain.high], [row + place] * 2, color=colour, linewidth=1.2)
            label = METRICS[endpoint].label if row == 0 else None
            ax.plot(100 * gain.value, row + place, color=colour, marker=marker, markersize=4, label=label, linestyle="")
    rows = [f"{one.first}\nagainst {one.second}" for one in next(iter(compared.values()))]
    ax.set_yticks(range(len(rows)), rows, fontsize=6)
    sides = [
        (row + STYLES[endpoint][2], endpoint, one)
        for endpoint, found in compared.items()
        for row, one in enumerate(found)
    ]
    right = ax.secondary_yaxis("right")
    right.set_yticks([place for place, _, _ in sides], [outcome(one).split(",")[0] for _, _, one in sides], fontsize=6)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    for (_, endpoint, _), text in zip(sides, right.get_yticklabels(), strict=True):
        text.set_color(STYLES[endpoint][0])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="x")
    ax.set_xlabel("gain (points); grey: margin")
    ax.legend(fontsize=6, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False)
    return ax


def save(runs: Iterable[Any], directory: str | Path) -> list[Path]:
    """Write the tables of every scale, and a picture of each scale whose runs are all there; the paths written."""
    runs, paths = list(runs), []
    for scale in preregistered.SCALES:
        tables = [preregistered.table(runs, scale, endpoint) for endpoint in preregistered.ENDPOINTS]
        paths += [path for table in tables for path in table.save(directory)]
        compared = preregistered.compared(runs, scale)
        if compared is None:
            continue
        with styled():
            figure, ax = plt.subplots(figsize=(WIDTHS["single"], 3.4), layout="constrained")
            plot(compared, ax)
            told = tables[0].caption.split(", ", 1)[1]
            caption(figure, f"{told}; bars: 95% intervals over {preregistered.DESIGNS[scale].over}")
            paths += save_pictures(figure, directory, f"preregistered-{scale}")
    return paths


def main(arguments: list[str] | None = None) -> None:
    """Write the preregistered comparisons from run directories."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.report.preregistered_pages", description=main.__doc__)
    parser.add_argument("runs", nargs="+", help="directories that hold runs")
    parser.add_argument("--out", default="figures/preregistered", help="where tables and pictures go")
    options = parser.parse_args(arguments)
    print(*save(load(*options.runs).results, options.out), sep="\n")


if __name__ == "__main__":
    main()
