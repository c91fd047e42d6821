"""How far each rule moved the policy, and its gain over GRPO as far, as tables and one picture. Needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sa_ah_lib.analysis import board, comparison, distance
from sa_ah_lib.report import forest
from sa_ah_lib.report.board_pages import APART, STYLES
from sa_ah_lib.report.comparison_rows import save_comparisons
from sa_ah_lib.report.style import WIDTHS, caption, save_pictures, styled
from sa_ah_lib.train.run import Run


def plot(moved: Mapping[str, Sequence[distance.Moved]], ax: Axes | None = None) -> Axes:
    """Forest plot: each rule's gain in Pass@1 over GRPO as far, one mark for each scale.

    On the right stands how far a rule moved: its mean KL from the start over that of GRPO at the scale's own rate.

    Args:
        moved: {scale: what ``distance.moved`` gives, not empty}. ax: matplotlib axes; None makes new ones.
    """
    ax = ax or plt.subplots()[1]
    labels = _rules(moved)
    forest.no_difference(ax, distance.METRIC)
    beside = []
    for number, (found, style) in enumerate(zip(moved.values(), STYLES, strict=False)):
        shift = APART * (2 * number - len(moved) + 1)
        for one in found:
            if one.at_equal:
                place = labels.index(one.arm.label) + shift
                forest.gain(ax, place, one.at_equal, style)
                beside.append((place, f"{one.kl / found[0].kl:.2f}", style["color"]))
    forest.rows(ax, labels)
    forest.beside(ax, beside).set_ylabel("KL from the start / GRPO's", fontsize=6)
    ax.xaxis.set_major_locator(plt.MaxNLocator(5))
    ax.set_xlabel("Pass@1 − GRPO as far (points)\nbetter to the right")
    forest.key(ax, dict(zip(moved, STYLES, strict=False)))
    return ax


def _rules(moved):
    """Labels of the rules that some scale compares, in the board's order."""
    there = {one.arm.label for found in moved.values() for one in found if one.at_equal}
    return [entry.label for entry in board.entries() if entry.label in there]


def picture(moved: Mapping[str, Sequence[distance.Moved]], width: str = "single") -> Figure:
    """The forest plot as a figure one or two journal columns wide.

    Args:
        moved: {scale: what ``distance.moved`` gives, not empty}; at least one.
    """
    with styled():
        height = 1.5 + 0.22 * len(_rules(moved))  # inches
        figure, ax = plt.subplots(figsize=(WIDTHS[width], height), layout="constrained")
        plot(moved, ax)
        told = "; ".join(comparison.caption([one.arm for one in found]) for found in moved.values())
        bars = f"bars: 95% intervals; grey: margin; {forest.DECIDED}"
        return caption(figure, f"Token-weight rules against GRPO as far from the start. {told}; {bars}")


def save(results: Sequence[Run], directory: str | Path, width: str = "single") -> list[Path]:
    """Write ``distance-<scale>`` as Markdown, CSV and LaTeX, and ``distance`` as PNG, SVG and PDF; the paths.

    ``distance-numbers.csv`` and ``distance-pairs.csv`` hold the comparisons with GRPO as far, to compute with.
    Scales without GRPO at two learning rates or more are left out.
    """
    moved = {scale: found for scale in board.SCALES if (found := distance.moved(results, scale))}
    paths = [path for scale, found in moved.items() for path in distance.table(found, scale).save(directory)]
    if moved:
        compared = {scale: [one.at_equal for one in found if one.at_equal] for scale, found in moved.items()}
        paths += save_pictures(picture(moved, width), directory, "distance")
        paths += save_comparisons(compared, directory, "distance")
    return paths
