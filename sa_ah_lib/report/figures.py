"""The paper's figures, the five of its appendix, and the training notebooks' panels, from families. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from sa_ah_lib.analysis.results import Family
from sa_ah_lib.paper.printed import RAW_BASE
from sa_ah_lib.report import figure_data, plots, schematic
from sa_ah_lib.report.style import METHOD_STYLE, WIDTHS, caption, legend_above, styled
from sa_ah_lib.train.run import Run
from sa_ah_lib.upstream.metrics import METRICS


@dataclass(frozen=True)
class Spec:
    """How one figure is made: ``rows(family)``, ``draw(rows, axes)``, panels from top to bottom, inches of height.

    ``panels`` is a number, or takes the rows and gives it; ``height`` is of one panel. ``size`` is "large" or "small"
    where the paper shows that model alone.
    """

    title: str
    rows: Callable[[Family], list[dict[str, Any]]]
    draw: Callable[..., Any]
    panels: int | Callable[[list[dict[str, Any]]], int] = 1
    height: float = 2.6
    size: str = ""

    def suits(self, family: Family) -> bool:
        """Whether the family stands in the place of the model that the figure shows."""
        return self.size in ("", "large" if family.is_large else "small")


def _of(*methods):
    return partial(figure_data.pass_at_1, methods=methods)


FIGURES = {
    "figure-1": Spec("GRPO and AH-GRPO, Pass@1", _of("grpo", "ah-grpo"), plots.plot_pass_at_1, size="large"),
    "figure-2": Spec("SA-AH-GRPO, Pass@1", _of("sa-ah-grpo"), plots.plot_pass_at_1, size="large"),
    "figure-3": Spec("SA-AH-GRPO, Pass@1", _of("sa-ah-grpo"), plots.plot_pass_at_1, size="small"),
    "figure-4": Spec("AH-GRPO by α", figure_data.alpha_summary, plots.plot_alphas),
    "figure-a1": Spec("All three methods, Pass@1", figure_data.pass_at_1, plots.plot_pass_at_1, height=2.9),
    "figure-a2": Spec("AH-GRPO by α, peak and final", figure_data.alpha_summary, plots.plot_alpha_bars),
    "figure-a3": Spec(
        "Training reward", figure_data.reward, plots.plot_reward_panels, figure_data.methods_with_steps, 1.25
    ),
    "figure-a4": Spec(
        "SA-AH-GRPO: entropy and weight", figure_data.entropy_and_weight, plots.plot_entropy_and_weight, 2, 1.5
    ),
    "figure-a5": Spec(
        "Token weights on made-up entropies, then on two logged rollouts of one prompt",
        schematic.rows,
        schematic.draw,
        4,
        1.0,
    ),
}
"""Figures 1 to 4 and the appendix list, items 1 to 5."""


def render(name: str, family: Family, width: str = "single") -> tuple[Figure, list[dict[str, Any]]]:
    """Draw one figure of one family at a journal width.

    Returns:
        (figure, rows): ``rows`` are what was drawn.

    Raises:
        MissingData: the family's source does not have what the figure shows.
    """
    spec = FIGURES[name]
    rows = spec.rows(family)
    with styled():
        count = spec.panels if isinstance(spec.panels, int) else spec.panels(rows)
        # Caption and legend take an inch, whatever the panels are.
        height = spec.height if count == 1 and spec.panels == 1 else 0.9 + count * (spec.height - 0.1)
        figure, axes = plt.subplots(count, 1, figsize=(WIDTHS[width], height), layout="constrained")
        spec.draw(rows, axes)
        caption(figure, f"{spec.title}. {family.caption}{_evaluated(family, rows)}")
    return figure, rows


def _evaluated(family, rows):
    """What the paper's zero-shot was before it was lowered by hand (its Section 4.1), where a figure has it."""
    if family.source != "paper" or all(row.get("method") != "zero-shot" for row in rows):
        return ""
    return f". Zero-shot is as printed; evaluated it was {RAW_BASE[family.scale]}"


def overview(family: Family, sweep: bool = False, trained: Run | None = None) -> Figure:
    """Pass@1 beside the reward, one line per method, or with ``sweep`` per alpha of AH-GRPO; 6.9 in wide.

    Args:
        trained: a run that has a line, too, whatever its method, rule and alpha are; not with ``sweep``.
    """
    rows = figure_data.alpha_sweep(family) if sweep else figure_data.pass_at_1(family, trained=trained)
    with styled():
        figure, axes = plt.subplots(1, 2, figsize=(WIDTHS["double"], 2.9), layout="constrained")
        plots.plot_pass_at_1(rows, axes[0])
        rewards = figure_data.alpha_rewards(family) if sweep else figure_data.reward(family, trained)
        plots.plot_reward(rewards, axes[1])
        return caption(figure, family.caption)


def diagnostics(result: Any) -> Figure:
    """Four panels of one run: reward, normalised entropy, mean weights, KL; a figure 6.9 in wide."""
    panels = ("reward", "sa_ah/entropy", "sa_ah/weight", "kl")
    color = METHOD_STYLE.get(result.config.method, {"color": "0.25"})["color"]
    with styled():
        figure, axes = plt.subplots(2, 2, figsize=(WIDTHS["double"], 3.8), layout="constrained")
        for ax, key in zip(axes.flat, panels, strict=True):
            ax.plot(*result.curve(key), color=color, linewidth=0.9, label="all rollouts")
            ax.set(xlabel="training step", ylabel=METRICS[key].axis)
            ax.ticklabel_format(axis="y", useOffset=False)
        steps, negative = result.curve("sa_ah/weight_negative")
        # 0 stands for "no negative rollout at this step", which is not a weight: the line breaks there.
        negative = np.where(negative > 0, negative, np.nan)
        axes[1, 0].plot(steps, negative, color="0.25", linewidth=0.9, linestyle="--", label="negative rollouts")
        legend_above(axes[1, 0])
        return caption(figure, f"{result.config.label}. {Family((result,)).caption}")
