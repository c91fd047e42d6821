"""How far each rule moved the policy, as tables and one picture. Needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sa_ah_lib.analysis import board, comparison, distance
from sa_ah_lib.report.seed_figures import styles
from sa_ah_lib.report.style import WIDTHS, caption, save_pictures, styled
from sa_ah_lib.train.run import Run


def plot(found: Sequence[distance.Moved], ax: Axes | None = None) -> Axes:
    """Mean gain in Pass@1 over mean KL from the start, one mark for each arm; GRPO's learning rates are a line.

    GRPO that ends below the start is not drawn: all that is compared would shrink to a corner.

    Args:
        found: what ``distance.moved`` gives, not empty. ax: matplotlib axes; None makes new ones.
    """
    ax = ax or plt.subplots()[1]
    drawn = dict(zip([one.arm.label for one in found], styles([one.arm for one in found]), strict=True))
    places = {one.arm.label: (1000 * one.kl, 100 * one.gain) for one in found}
    line = sorted(places[one.arm.label] for one in found if one.at_equal is None and one.gain >= 0)
    grpo = drawn[found[0].arm.label]
    ax.plot(*zip(*line, strict=True), **{**grpo, "linestyle": "-"}, label="GRPO, at larger steps to the right")
    for one in found:
        if one.at_equal:
            ax.plot(*places[one.arm.label], **{**drawn[one.arm.label], "linestyle": "none"}, label=one.arm.label)
    ax.xaxis.set_major_locator(plt.MaxNLocator(6))
    ax.set(xlabel="KL from the start (0.001 nats per token)", ylabel="gain in Pass@1 (points)")
    ax.legend(fontsize=6, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def picture(moved: Mapping[str, Sequence[distance.Moved]]) -> Figure:
    """One panel above the other for each scale, one journal column wide.

    Args:
        moved: {scale: what ``distance.moved`` gives, not empty}; at least one.
    """
    with styled():
        heights = [2.1 + 0.13 * (len(found) // 2) for found in moved.values()]  # inches, the legend's lines with them
        figure, axes = plt.subplots(
            len(moved), figsize=(WIDTHS["single"], 0.4 + sum(heights)), layout="constrained", squeeze=False,
            height_ratios=heights,
        )  # fmt: skip
        for ax, found in zip(axes[:, 0], moved.values(), strict=True):
            plot(found, ax)
        told = "; ".join(comparison.caption([one.arm for one in found]) for found in moved.values())
        lost = [one for found in moved.values() for one in found if one.at_equal is None and one.gain < 0]
        left = "; GRPO that ends below its start is in the tables alone" if lost else ""
        return caption(figure, f"Means over runs (their intervals are in the tables), from above: {told}{left}")


def save(results: Sequence[Run], directory: str | Path) -> list[Path]:
    """Write ``distance-<scale>`` as Markdown, CSV and LaTeX, and ``distance`` as PNG, SVG and PDF; the paths.

    Scales without GRPO at two learning rates or more are left out.
    """
    moved = {scale: found for scale in board.SCALES if (found := distance.moved(results, scale))}
    paths = [path for scale, found in moved.items() for path in distance.table(found, scale).save(directory)]
    return paths + (save_pictures(picture(moved), directory, "distance") if moved else [])
