"""Forest plots: rows of estimates with intervals, about a line of no difference. Needs no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.ticker import FuncFormatter, NullLocator

from sa_ah_lib.analysis.measures import METRICS
from sa_ah_lib.analysis.seeds import Comparison

DECIDED = "a verdict needs the interval and Holm's p"
"""For captions: an interval off the line alone is none."""


def shown(metric: str, gains: Sequence[float]) -> np.ndarray:
    """Gains, which are positive where the first is better, as an axis has them: differences in points, or ratios."""
    rule = METRICS[metric]
    signed = np.asarray(gains) if rule.larger_is_better else -np.asarray(gains)
    return np.exp(signed) if rule.ratio else 100 * signed


def no_difference(ax: Axes, metric: str) -> None:
    """The line of no difference, in a grey band of what is too small to matter in ``metric``, a key of ``METRICS``."""
    least = METRICS[metric].least_gain
    ax.axvspan(*sorted(shown(metric, [-least, least])), color="0.92", zorder=0, linewidth=0)
    ax.axvline(shown(metric, [0])[0], color="0.35", linewidth=0.8, zorder=1)


def gain(ax: Axes, place: float, comparison: Comparison, style: Mapping[str, Any], ticks: float | None = None) -> None:
    """One comparison's mean gain with its interval at height ``place``; every pair as a tick, so much below it."""
    if ticks is not None:
        values(ax, place + ticks, shown(comparison.metric, list(comparison.gains.values())), style)
    found = comparison.gain
    ends = np.sort(shown(comparison.metric, [found.low, found.high]))
    interval(ax, place, shown(comparison.metric, [found.value])[0], *ends, style)


def beyond(ax: Axes, place: float, comparison: Comparison, furthest: float, style: Mapping[str, Any]) -> None:
    """An arrow at the edge with the number, for a mean gain in points further from 0 than ``furthest``."""
    (value,), color = shown(comparison.metric, [comparison.gain.value]), style["color"]
    side = 1 if value > 0 else -1
    ax.plot(side * furthest, place, ">" if side > 0 else "<", color=color, markersize=4)
    align, told = ("right" if side > 0 else "left"), f"{value:+.0f}".replace("-", "−")
    ax.text(side * furthest * 0.92, place, told, color=color, fontsize=6, ha=align, va="center_baseline")


def values(ax: Axes, place: float, points: Sequence[float] | np.ndarray, style: Mapping[str, Any]) -> None:
    """Single values as ticks in the colour of ``style``."""
    ax.plot(points, [place] * len(points), "|", color=style["color"], alpha=0.6, markersize=4)


def interval(ax: Axes, place: float, value: float, low: float, high: float, style: Mapping[str, Any]) -> None:
    """A marker at ``value`` on a bar from ``low`` to ``high``; without a bar where they are not finite.

    Args:
        style: "color" and "marker", and what else a marker has.
    """
    if not np.isfinite(value):
        return
    if np.isfinite(low):
        ax.plot([low, high], [place, place], color=style["color"], linewidth=1.2, solid_capstyle="butt")
    marker = {name: how for name, how in style.items() if name != "linestyle"}
    ax.plot(value, place, **{"markersize": 5, **marker})


def plain_log(ax: Axes) -> None:
    """A logarithmic axis with plain numbers, few enough to read; an axis without data stays linear."""
    if not np.isfinite(ax.dataLim.minposx):
        return
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    choices = {4: (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), 10: (1, 1.5, 2, 3, 5, 7), 100: (1, 2, 5)}
    steps = next((steps for span, steps in choices.items() if high / low < span), (1,))
    places = [step * 10.0**power for power in range(-6, 7) for step in steps]
    ax.set_xticks([place for place in places if low <= place <= high])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def rows(ax: Axes, labels: Sequence[str]) -> None:
    """One row for each label, from above to below, with a grid to read values by."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(axis="x")


def beside(ax: Axes, texts: Sequence[tuple[float, str, str]]) -> SecondaryAxis:
    """Small texts to the right of the rows, each (height, text, colour); the axis that holds them."""
    right = ax.secondary_yaxis("right")
    right.set_yticks([place for place, _, _ in texts], [text for _, text, _ in texts], fontsize=6)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    for (_, _, color), label in zip(texts, right.get_yticklabels(), strict=True):
        label.set_color(color)
    return right


def key(ax: Axes, styles: Mapping[str, Mapping[str, Any]], columns: int = 3) -> None:
    """A legend above ``ax``: {label: style} of its intervals."""
    for label, style in styles.items():
        ax.plot([], [], label=label, linewidth=1.2, **style)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)
