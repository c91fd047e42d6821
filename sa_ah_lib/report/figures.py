"""The paper's figures, the five of its appendix, and the training notebooks' panels: rows in, axes out. No torch."""

import csv
import textwrap
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from sa_ah_lib.analysis.results import Family
from sa_ah_lib.analysis.rounding import DRAWN
from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.report import figure_data, schematic
from sa_ah_lib.report.figure_data import running
from sa_ah_lib.upstream.metrics import METRICS

STYLE = Path(__file__).with_name("paper.mplstyle")
WIDTHS = {"single": 3.3, "double": 6.9}
"""Inches of one and of two journal columns."""

# Okabe-Ito colours, told apart by colour-blind readers; marker and dash tell them apart in greyscale.
METHOD_STYLE = {
    "grpo": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "ah-grpo": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "sa-ah-grpo": {"color": "#009E73", "marker": "^", "linestyle": "-."},
}
PEAK, FINAL = "#0072B2", "#D55E00"


@contextmanager
def styled():
    """The project's style for what is drawn inside; the settings of before come back after."""
    # Load a notebook's backend before, not inside: it switches interactive mode on, which the style would take back
    # with its other settings, and no later picture would be shown.
    plt.draw_if_interactive()
    with plt.style.context(STYLE):
        yield


def plot_pass_at_1(rows, ax):
    """Pass@1 against step, a line a method with its 95% band, zero-shot dashed; rows of ``figure_data.pass_at_1``."""
    for style, label, members in _lines(rows):
        steps, rates, low, high = (np.array([row[k] for row in members]) for k in ("step", "pass_at_1", "low", "high"))
        ax.plot(steps, rates, label=label, **style)
        ax.fill_between(steps, low, high, color=style["color"], alpha=0.13, linewidth=0)
    _baseline(rows, ax)
    ax.set(xlabel="training step", ylabel=_rate_label(rows))
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 3, 6, 10]))
    _legend_above(ax)
    return ax


def plot_alphas(rows, ax):
    """Figure 4: peak (solid circles) and final Pass@1 (open squares) by alpha, zero-shot dashed."""
    for which, marker, color, face in (("peak", "o", PEAK, PEAK), ("final", "s", FINAL, "none")):
        members = [row for row in rows if row.get("which") == which]
        alphas, rates = ([row[k] for row in members] for k in ("alpha", "pass_at_1"))
        ax.plot(alphas, rates, color=color, marker=marker, markerfacecolor=face, label=which)
    _baseline(rows, ax)
    alphas = sorted({row["alpha"] for row in rows if "which" in row})
    if alphas[-1] > 1:
        # The paper's alphas would lie on top of one another beside a strong one.
        ax.set_xscale("symlog", linthresh=0.5)
        ax.set_xticks(alphas, [f"{a:g}".replace("-", "−") for a in alphas], minor=False)
        ax.set_xticks([], minor=True)
    ax.set(xlabel="discount strength α of AH-GRPO (0 is GRPO)", ylabel=_rate_label(rows))
    _legend_above(ax)
    return ax


def plot_alpha_bars(rows, ax):
    """Appendix item 2: peak and final Pass@1 by alpha as bars with 95% intervals, zero-shot dashed."""
    alphas = sorted({row["alpha"] for row in rows if "which" in row})
    for shift, which, color, hatch in ((-0.2, "peak", PEAK, ""), (0.2, "final", FINAL, "///")):
        members = [next(r for r in rows if r.get("which") == which and r["alpha"] == a) for a in alphas]
        rates = np.array([row["pass_at_1"] for row in members])
        errors = np.abs(np.array([[row["low"], row["high"]] for row in members]).T - rates)
        style = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
        ax.bar(np.arange(len(alphas)) + shift, rates, 0.38, label=which, **style)
        bars = {"fmt": "none", "ecolor": "0.15", "elinewidth": 0.8, "capsize": 1.5}
        ax.errorbar(np.arange(len(alphas)) + shift, rates, errors, **bars)
    _baseline(rows, ax)
    bounds = [row[k] for row in rows if "which" in row for k in ("low", "high")] + [r["pass_at_1"] for r in rows]
    pad = 0.15 * (max(bounds) - min(bounds))
    # Bars that do not start at 0 show differences of a few hundredths; the axis says where it starts.
    ax.set_ylim(max(0, min(bounds) - pad), min(1, max(bounds) + pad))
    ax.set_xticks(range(len(alphas)), [f"{a:g}".replace("-", "−") for a in alphas])
    ax.set(xlabel="discount strength α of AH-GRPO (0 is GRPO)", ylabel=_rate_label(rows))
    _legend_above(ax)
    return ax


def plot_reward(rows, ax, window=9):
    """Appendix item 3: mean reward with a band of one standard deviation over rollouts, and the training variances.

    Logs of many steps are drawn as running means over ``window`` steps; a few printed ones as points with bars.
    """
    longest = 0
    for style, label, members in _lines(rows):
        variance = members[0]["train_variance"]
        label += "" if variance is None else f", Var {variance:.4f}"
        points = [row for row in members if row["step"] is not None]
        longest = max(longest, len(points))
        if not points:
            ax.plot([], [], label=f"{label} (steps not printed)", **style)
            continue
        steps, means = (np.array([row[k] for row in points], dtype=float) for k in ("step", "reward"))
        spread = np.array([row["reward_std"] or 0.0 for row in points])
        if len(points) < 3 * window:
            ax.errorbar(steps, means, spread, label=label, capsize=2, elinewidth=0.8, **style)
            continue
        smooth, middle = running(means, window)
        band = running(spread, window)[0]
        line = {k: style[k] for k in ("color", "linestyle")}
        ax.plot(steps[middle], smooth, label=label, **line)
        ax.fill_between(steps[middle], smooth - band, smooth + band, color=style["color"], alpha=0.10, linewidth=0)
    smoothed = f" ({window}-step means)" if longest >= 3 * window else ""
    ax.set(xlabel=f"training step{smoothed}", ylabel=f"{METRICS['reward'].axis} ± std")
    _legend_above(ax, columns=1)
    return ax


def plot_entropy_and_weight(rows, axes):
    """Appendix item 4: mean normalised entropy, and mean weights, of SA-AH-GRPO over steps; two axes."""
    marker = {"marker": "."} if len(rows) < 30 else {}
    steps = [row["step"] for row in rows]
    axes[0].plot(steps, [row["entropy"] for row in rows], color="#0072B2", **marker)
    axes[0].set(ylabel=METRICS["sa_ah/entropy"].axis, ylim=(0, None))
    axes[1].plot(steps, [row["weight"] for row in rows], color="#009E73", label="all rollouts", **marker)
    # 0 stands for "no negative rollout at this step", which is not a weight.
    negative = [(row["step"], row["weight_negative"]) for row in rows if row["negative_fraction"]]
    axes[1].plot(*zip(*negative, strict=True), color="#D55E00", linestyle="--", label="negative rollouts", **marker)
    axes[1].set(xlabel="training step", ylabel=METRICS["sa_ah/weight"].axis, ylim=(0, 1.05))
    axes[0].tick_params(labelbottom=False)
    _legend_above(axes[1])
    return axes


@dataclass(frozen=True)
class Spec:
    """How one figure is made: ``rows(family)``, ``draw(rows, ax)``, panel rows and columns, inches of height.

    ``size`` is "large" or "small" where the paper shows that model alone.
    """

    title: str
    rows: Callable
    draw: Callable
    panels: tuple = (1, 1)
    height: float = 2.6
    size: str = ""

    def suits(self, family):
        """Whether the family stands in the place of the model that the figure shows."""
        return self.size in ("", "large" if family.is_large else "small")


def _of(*methods):
    return partial(figure_data.pass_at_1, methods=methods)


FIGURES = {
    "figure-1": Spec("GRPO and AH-GRPO, Pass@1", _of("grpo", "ah-grpo"), plot_pass_at_1, size="large"),
    "figure-2": Spec("SA-AH-GRPO, Pass@1", _of("sa-ah-grpo"), plot_pass_at_1, size="large"),
    "figure-3": Spec("SA-AH-GRPO, Pass@1", _of("sa-ah-grpo"), plot_pass_at_1, size="small"),
    "figure-4": Spec("AH-GRPO by α", figure_data.alpha_summary, plot_alphas),
    "figure-a1": Spec("All three methods, Pass@1", figure_data.pass_at_1, plot_pass_at_1),
    "figure-a2": Spec("AH-GRPO by α, peak and final", figure_data.alpha_summary, plot_alpha_bars),
    "figure-a3": Spec("Training reward", figure_data.reward, plot_reward, height=2.9),
    "figure-a4": Spec(
        "SA-AH-GRPO: entropy and weight", figure_data.entropy_and_weight, plot_entropy_and_weight, (2, 1), 3.0
    ),
    "figure-a5": Spec("Token weights on two rollouts of one prompt", schematic.rows, schematic.draw, (4, 2), 3.9),
}
"""Figures 1 to 4 and the appendix list, items 1 to 5."""


def render(name, family, width="single"):
    """Draw one figure of one family at a journal width.

    Returns:
        (figure, rows): ``rows`` are what was drawn.

    Raises:
        MissingData: the family's source does not have what the figure shows.
    """
    spec = FIGURES[name]
    rows = spec.rows(family)
    with styled():
        figure, axes = plt.subplots(*spec.panels, figsize=(WIDTHS[width], spec.height), layout="constrained")
        spec.draw(rows, axes)
        caption(figure, f"{spec.title}. {family.caption}")
    return figure, rows


def overview(family, sweep=False):
    """Pass@1 beside the reward, a line a method, or with ``sweep`` a line an alpha of AH-GRPO; 6.9 in wide."""
    rows = figure_data.alpha_sweep(family) if sweep else figure_data.pass_at_1(family)
    with styled():
        figure, axes = plt.subplots(1, 2, figsize=(WIDTHS["double"], 2.9), layout="constrained")
        plot_pass_at_1(rows, axes[0])
        plot_reward(figure_data.alpha_rewards(family) if sweep else figure_data.reward(family), axes[1])
        return caption(figure, family.caption)


def diagnostics(result):
    """Four panels of one run: reward, normalised entropy, mean weights, KL; a figure 6.9 in wide."""
    panels = ("reward", "sa_ah/entropy", "sa_ah/weight", "kl")
    with styled():
        figure, axes = plt.subplots(2, 2, figsize=(WIDTHS["double"], 3.8), layout="constrained")
        for ax, key in zip(axes.flat, panels, strict=True):
            ax.plot(*result.curve(key), color="#0072B2", linewidth=0.9, label="all rollouts")
            ax.set(xlabel="training step", ylabel=METRICS[key].axis)
            ax.ticklabel_format(axis="y", useOffset=False)
        steps, negative = result.curve("sa_ah/weight_negative")
        axes[1, 0].plot(steps, negative, color="#D55E00", linewidth=0.9, linestyle="--", label="negative rollouts")
        _legend_above(axes[1, 0])
        return caption(figure, f"{METHOD_LABELS[result.config.method]}. {Family((result,)).caption}")


def caption(figure, text):
    """Write source, model, seed and date above a figure, wrapped to its width."""
    figure.suptitle(textwrap.fill(text, int(figure.get_size_inches()[0] * 21)), fontsize=6, color="0.3")
    return figure


def save_pictures(figure, directory, name):
    """Write ``name``.png (300 dpi), .svg and .pdf without dates, so that equal data give equal bytes; the paths."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    paths = [directory / f"{name}.{ending}" for ending in undated]
    with styled():  # it also fixes the resolution, the ids inside the SVG and the PDF's kind of font
        for path, metadata in zip(paths, undated.values(), strict=True):
            figure.savefig(path, metadata=metadata)
    plt.close(figure)
    return paths


def save(figure, rows, directory, name):
    """``save_pictures``, and ``name``.csv with the rows that were drawn; the paths."""
    paths = [*save_pictures(figure, directory, name), Path(directory) / f"{name}.csv"]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with open(paths[-1], "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.{DRAWN}g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return paths


def _lines(rows):
    """(style, label, rows) of each method or, in a sweep, each alpha; zero-shot left out."""
    keys = list(dict.fromkeys((row["method"], row.get("alpha")) for row in rows if row["method"] != "zero-shot"))
    methods = [method for method, _ in keys]
    for i, (method, alpha) in enumerate(keys):
        members = [row for row in rows if (row["method"], row.get("alpha")) == (method, alpha)]
        if len(set(methods)) == len(methods):
            yield METHOD_STYLE[method], METHOD_LABELS[method], members
        else:
            shade = plt.get_cmap("cividis")(i / max(1, len(keys) - 1) * 0.9)
            yield {"color": shade, "marker": "vosD^<>P"[i % 8], "linestyle": "-"}, f"α = {alpha:g}", members


def _baseline(rows, ax):
    base = [row["pass_at_1"] for row in rows if row.get("method") == "zero-shot"]
    if base:
        ax.axhline(base[0], color="0.35", linewidth=0.9, linestyle=(0, (4, 3)), label=f"zero-shot {base[0]:.3f}")


def _rate_label(rows):
    return f"greedy Pass@1, N = {rows[-1]['problems']}"


def _legend_above(ax, columns=2):
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, columnspacing=1.2, handlelength=2.4)
