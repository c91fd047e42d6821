"""The curves of the paper's figures: rows of ``figure_data`` in, axes out. Needs no torch."""

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.report.figure_data import running
from sa_ah_lib.report.style import METHOD_STYLE, legend_above
from sa_ah_lib.rewards import MAX_REWARD
from sa_ah_lib.upstream.metrics import METRICS

Rows = Sequence[dict[str, Any]]

# What is no method has no method's colour.
WHICH_STYLE = {
    "peak": {"color": "0.15", "marker": "o", "markerfacecolor": "0.15", "linestyle": "-"},
    "final": {"color": "0.5", "marker": "D", "markerfacecolor": "white", "linestyle": "--"},
}
BARS = {"elinewidth": 0.8, "capsize": 1.5}
WINDOW = 9
"""Steps of a running mean."""


def plot_pass_at_1(rows: Rows, ax: Axes) -> Axes:
    """Pass@1 against step, a line per method, its 95% bars moved aside, zero-shot dashed where near them."""
    lines = list(_lines(rows))
    steps = sorted({row["step"] for _, _, members in lines for row in members})
    gap = min(np.diff(steps), default=1)
    for number, (style, label, members) in enumerate(lines):
        places, (rates, errors) = np.array([row["step"] for row in members]), _rates(members)
        shift = 0.07 * gap * (number - (len(lines) - 1) / 2)
        ax.plot(places, rates, label=label, **style)
        ax.errorbar(places + shift, rates, errors, fmt="none", ecolor=style["color"], **BARS)
    _fit_to_bars(rows, ax)
    ax.set(xlabel="training step", ylabel=_rate_label(rows))
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 3, 6, 10]))
    legend_above(ax, interval=_interval(rows))
    return ax


def plot_alphas(rows: Rows, ax: Axes) -> Axes:
    """Figure 4: peak and final Pass@1 by alpha with 95% bars, zero-shot dashed where it is near them."""
    alphas = sorted({row["alpha"] for row in rows if "which" in row})
    for shift, (which, style) in zip((-0.12, 0.12), WHICH_STYLE.items(), strict=True):
        members = [row for row in rows if row.get("which") == which]
        _bars(ax, [alphas.index(row["alpha"]) + shift for row in members], members, which, style)
    _fit_to_bars(rows, ax)
    _alpha_axis(alphas, rows, ax)
    return ax


def plot_alpha_bars(rows: Rows, ax: Axes) -> Axes:
    """Appendix item 2: peak and final Pass@1 by alpha as bars from 0, with 95% intervals, zero-shot dashed."""
    alphas = sorted({row["alpha"] for row in rows if "which" in row})
    for shift, which, color, hatch in ((-0.2, "peak", "0.45", ""), (0.2, "final", "0.75", "///")):
        members = [next(r for r in rows if r.get("which") == which and r["alpha"] == a) for a in alphas]
        places = np.arange(len(alphas)) + shift
        rates, errors = _rates(members)
        ax.bar(places, rates, 0.38, label=which, color=color, hatch=hatch, edgecolor="white", linewidth=0)
        ax.errorbar(places, rates, errors, fmt="none", ecolor="black", **BARS)
    _baseline(rows, ax)
    ax.set_ylim(0, 1)
    _alpha_axis(alphas, rows, ax)
    return ax


def plot_reward(rows: Rows, ax: Axes) -> Axes:
    """Mean reward of each step, one line per method (or alpha), as running means of long logs; for an overview."""
    for style, label, members in _lines(rows):
        points = [row for row in members if row["step"] is not None]
        if points:
            steps, means = _smooth(points)
            line = style if len(points) < 3 * WINDOW else {k: style[k] for k in ("color", "linestyle")}
            ax.plot(steps, means, label=_with_variance(label, members), **line)
    ax.set(xlabel=_smoothed("training step", rows), ylabel=METRICS["reward"].axis)
    legend_above(ax, columns=1)
    return ax


def plot_reward_panels(rows: Rows, axes: Any) -> Any:
    """Appendix item 3: a panel per method with a log of rewards, on one scale.

    Each step's mean (dots), its running mean (line), one standard deviation over the step's rollouts (band, cut at the
    largest reward), and the second half of the steps, whose means' variance is the paper's training variance.
    """
    logged = [(*line, points) for line in _lines(rows) if (points := [r for r in line[2] if r["step"] is not None])]
    panels = list(np.atleast_1d(axes).flat)
    for ax, (style, label, members, points) in zip(panels, logged, strict=True):
        steps = np.array([row["step"] for row in points])
        means, spread = (np.array([row[k] or 0.0 for row in points], float) for k in ("reward", "reward_std"))
        long = len(points) >= 3 * WINDOW
        if long:
            smooth, middle = running(means, WINDOW)
            band = running(spread, WINDOW)[0]
            edges = smooth - band, np.minimum(smooth + band, MAX_REWARD)
            ax.fill_between(steps[middle], *edges, color=style["color"], alpha=0.15, linewidth=0, label="±1 std")
            ax.plot(steps, means, ".", color=style["color"], markersize=2, alpha=0.6, label="mean of a step")
            ax.plot(steps[middle], smooth, color=style["color"], label=f"{WINDOW}-step mean")
        else:
            lengths = np.stack([spread, np.minimum(spread, MAX_REWARD - means)])
            ax.errorbar(steps, means, lengths, label="mean of a step ±1 std", **BARS, **style)
        ax.axvline(steps[-1] / 2, color="0.35", linewidth=0.8, linestyle=":", label="second half")
        behind = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 0.8}
        told = _with_variance(label, members)
        ax.text(0.98, 0.05, told, transform=ax.transAxes, ha="right", fontsize=7, bbox=behind)
        ax.set_ylabel("reward")
    for ax in panels[:-1]:
        ax.sharex(panels[-1])
        ax.sharey(panels[-1])
        ax.tick_params(labelbottom=False)
    unseen = [_with_variance(label, members) for _, label, members in _lines(rows) if members[0]["step"] is None]
    panels[-1].set_xlabel("\n".join(["training step", *(f"{text}: steps not printed" for text in unseen)]))
    legend_above(panels[0])
    return axes


def plot_entropy_and_weight(rows: Rows, axes: Any) -> Any:
    """Appendix item 4: mean normalised entropy, and mean weights, of SA-AH-GRPO over steps; two axes."""
    color, few = METHOD_STYLE["sa-ah-grpo"]["color"], len(rows) < 30
    marker = {"marker": "." if few else ""}
    steps = [row["step"] for row in rows]
    axes[0].plot(steps, [row["entropy"] for row in rows], color=color, **marker)
    axes[0].set(ylabel=METRICS["sa_ah/entropy"].axis, ylim=(0, None))
    axes[1].plot(steps, [row["weight"] for row in rows], color=color, label="all rollouts", **marker)
    # 0 stands for "no negative rollout at this step", which is not a weight: the line breaks there.
    negative = [row["weight_negative"] if row["negative_fraction"] else np.nan for row in rows]
    if not np.isnan(negative).all():
        open_marker = {"marker": "o" if few else "", "markerfacecolor": "white"}
        style = {"color": "0.25", "linestyle": "--", **open_marker}
        axes[1].plot(steps, negative, label="negative rollouts", **style)
    gaps = [row["step"] for row in rows if not row["negative_fraction"]]
    if gaps:
        axes[1].plot(gaps, [0] * len(gaps), "x", color="0.25", markersize=3, label="no negative rollout", clip_on=False)
    axes[1].set(xlabel="training step", ylabel=METRICS["sa_ah/weight"].axis, ylim=(0, 1.05))
    axes[0].tick_params(labelbottom=False)
    legend_above(axes[1])
    return axes


def _bars(ax, places, members, label, style):
    rates, errors = _rates(members)
    ax.errorbar(places, rates, errors, label=label, **BARS, **style)


def _rates(members):
    """(n,) rates and the (2, n) lengths of their bars."""
    rates = np.array([row["pass_at_1"] for row in members])
    return rates, np.abs(np.array([[row["low"], row["high"]] for row in members]).T - rates)


def _alpha_axis(alphas, rows, ax):
    """Alphas at equal distances: a strong one would push the paper's on top of one another."""
    ax.set_xticks(range(len(alphas)), [f"{a:g}".replace("-", "−") for a in alphas])
    ax.set(xlabel="discount strength α of AH-GRPO (0 is GRPO)", ylabel=_rate_label(rows))
    legend_above(ax, interval=_interval(rows))


def _fit_to_bars(rows, ax):
    """Limits that hold the bars; zero-shot is drawn where it lies near them, else its number is in the legend."""
    bounds = [row[k] for row in rows if row.get("method") != "zero-shot" for k in ("low", "high")]
    low, high = min(bounds), max(bounds)
    base = [row["pass_at_1"] for row in rows if row.get("method") == "zero-shot"]
    pad = 0.15 * (high - low)
    if base and not low - 1.5 * (high - low) <= base[0] <= high + 1.5 * (high - low):
        where = "below" if base[0] < low else "above"
        ax.plot([], [], " ", label=f"zero-shot {base[0]:.3f}, {where}")
    else:
        _baseline(rows, ax)
        low, high = min([low, *base]), max([high, *base])
    ax.set_ylim(max(0, low - pad), min(1, high + pad))


def _lines(rows) -> Iterator[tuple[dict[str, Any], str, list[dict[str, Any]]]]:
    """(style, label, rows) of each method or, in a sweep, each alpha; zero-shot left out."""
    keys = list(dict.fromkeys((row["method"], row.get("alpha")) for row in rows if row["method"] != "zero-shot"))
    methods = [method for method, _ in keys]
    for i, (method, alpha) in enumerate(keys):
        members = [row for row in rows if (row["method"], row.get("alpha")) == (method, alpha)]
        if len(set(methods)) == len(methods):
            # A run that is none of the paper's methods comes under its label.
            style, label = METHOD_STYLE.get(method, WHICH_STYLE["peak"]), METHOD_LABELS.get(method, method)
            yield style, label + (f", α = {alpha:g}" if alpha else ""), members
        else:
            shade = plt.get_cmap("cividis")(i / max(1, len(keys) - 1) * 0.9)
            yield {"color": shade, "marker": "vosD^<>P"[i % 8], "linestyle": "-"}, f"α = {alpha:g}", members


def _smooth(points):
    steps, means = (np.array([row[k] for row in points], dtype=float) for k in ("step", "reward"))
    smooth, middle = running(means, WINDOW if len(points) >= 3 * WINDOW else 1)
    return steps[middle], smooth


def _smoothed(label, rows):
    return f"{label} ({WINDOW}-step means)" if len({row["step"] for row in rows}) >= 3 * WINDOW else label


def _with_variance(label, members):
    variance = members[0]["train_variance"]
    return label + ("" if variance is None else f", Var {variance:.4f}")


def _baseline(rows, ax):
    base = [row["pass_at_1"] for row in rows if row.get("method") == "zero-shot"]
    if base:
        ax.axhline(base[0], color="0.35", linewidth=0.9, linestyle=(0, (4, 3)), label=f"zero-shot {base[0]:.3f}")


def _rate_label(rows):
    return f"greedy Pass@1, N = {rows[-1]['problems']}"


def _interval(rows):
    return f"95% {rows[-1]['interval']} intervals"
