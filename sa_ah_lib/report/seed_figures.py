"""Pictures of comparisons over seeds: one function a figure, arms in, axes out. Needs no torch."""

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sa_ah_lib.analysis import answer
from sa_ah_lib.analysis.compared import Compared
from sa_ah_lib.analysis.comparison import Arm, arm_of, by_family, caption
from sa_ah_lib.analysis.seeds import METRICS, interquartile_mean, performance_profile, scores
from sa_ah_lib.report import forest
from sa_ah_lib.report.style import METHOD_STYLE, WIDTHS, save_pictures, styled

# Controls keep their style from one figure to the next; colours are Okabe-Ito's other ones and greys.
CONTROL_STYLE = {
    "control-scalar": {"color": "0.25", "marker": "D", "linestyle": ":"},
    "control-position": {"color": "#CC79A7", "marker": "v", "linestyle": "--"},
    "control-shuffled": {"color": "#56B4E9", "marker": "P", "linestyle": "-."},
    "control-mirror": {"color": "0.55", "marker": "X", "linestyle": "-"},
    "control-local": {"color": "#E69F00", "marker": "<", "linestyle": "--"},
    "control-inverse": {"color": "#B09500", "marker": ">", "linestyle": "-."},
    "control-top-entropy": {"color": "0.4", "marker": "h", "linestyle": ":"},
}
STYLES = {**METHOD_STYLE, **CONTROL_STYLE}
# More arms of one method keep its colour and take the next of these markers.
MARKERS = "*pd8H"
SPARE = ("#000000", "#882255", "#332288")
"""Black, and wine and indigo of Tol's palette: colours that no method has."""
TICKS = 0.22
"""How far below its row's interval the ticks of single seeds stand."""

DRAWN = ("pass_at_1", "training_variance")

SCORE_BARS = "bars: 95% bootstrap intervals over seeds, warm starts held; ticks: runs"
GAIN_BARS = (
    f"bars: 95% intervals over seeds and problems (variance: seeds); ticks: pairs; grey: margin; {forest.DECIDED}"
)
PROFILE_BANDS = "bands, where drawn: 95% bootstrap intervals over seeds, warm starts held"


def plot_scores(arms: Sequence[Arm], metric: str, ax: Axes | None = None) -> Axes:
    """Every seed's score (small) and the interquartile mean with its 95% bootstrap interval, one row an arm."""
    ax = ax or plt.subplots()[1]
    for row, (arm, style) in enumerate(zip(arms, styles(arms), strict=True)):
        forest.values(ax, row + TICKS, list(scores(arm, metric).values()), style)
        found = interquartile_mean(arm, metric)
        forest.interval(ax, row, found.value, found.low, found.high, style)
    forest.rows(ax, _counted({arm.label: len(scores(arm, metric)) for arm in arms}))
    ax.set_xlabel(METRICS[metric].label)
    if METRICS[metric].ratio:
        forest.plain_log(ax)
    return ax


def plot_gains(compared: Compared, metric: str, ax: Axes | None = None) -> Axes:
    """Differences (or ratios) from GRPO in an arm's own setting: each pair's (small), the mean and its 95% interval.

    The grey band is the metric's margin: what lies in it is too small to matter.
    """
    ax = ax or plt.subplots()[1]
    rule, anchor, arms = METRICS[metric], arm_of(compared.arms, "grpo"), compared.arms
    if anchor is None:
        raise ValueError(f"arms must hold the reference 'grpo'. Got {[arm.config.method for arm in arms]}.")
    against = compared.against[metric]
    others = [arm for arm in arms if arm.label in against]
    forest.no_difference(ax, metric)
    drawn = dict(zip([arm.label for arm in arms], styles(arms), strict=True))
    for row, arm in enumerate(others):
        forest.gain(ax, row, against[arm.label], drawn[arm.label], ticks=TICKS)
    forest.rows(ax, _counted({arm.label: against[arm.label].gain.count for arm in others}))
    better = "right" if rule.larger_is_better else "left"
    unit = f"{rule.label}, ratio to {anchor.label}" if rule.ratio else f"{rule.label} − {anchor.label} (points)"
    settings = sum(arm.config.method == anchor.config.method for arm in arms) > 1
    ax.set_xlabel(f"{unit}\n{'GRPO in the same setting, ' * settings}better to the {better}")
    if rule.ratio:
        forest.plain_log(ax)
    return ax


def _counted(counts):
    """Labels of {label: runs or pairs}; with the number where the rows differ in it."""
    alike = len(set(counts.values())) < 2
    return [label if alike else f"{label} (n = {count})" for label, count in counts.items()]


def plot_profile(arms: Sequence[Arm], metric: str, ax: Axes | None = None) -> Axes:
    """Performance profiles: the share of an arm's runs that are at least as good as a score.

    Of up to three arms each has its bootstrap band; more of them would hide one another.
    """
    ax = ax or plt.subplots()[1]
    arms = [arm for arm in arms if scores(arm, metric)]
    values = np.concatenate([list(scores(arm, metric).values()) for arm in arms]) if arms else np.array([0.0, 1.0])
    thresholds = np.linspace(values.min() - 0.02 * np.ptp(values), values.max() + 0.02 * np.ptp(values), 201)
    for arm, style in zip(arms, styles(arms), strict=True):
        share, low, high = performance_profile(arm, metric, thresholds)
        line = {key: style[key] for key in ("color", "linestyle")}
        ax.plot(thresholds, share, label=arm.label, drawstyle="steps-post", **line)
        if len(arms) <= 3:
            ax.fill_between(thresholds, low, high, color=style["color"], alpha=0.12, linewidth=0, step="post")
    word = "at least" if METRICS[metric].larger_is_better else "at most"
    ax.set(xlabel=f"{METRICS[metric].label} {word}", ylabel="share of runs", ylim=(-0.03, 1.03))
    if arms:
        ax.legend(fontsize=6)
    return ax


def overview(compared: Compared, width: float = 6.9) -> Figure:
    """Final Pass@1 and training variance of every arm; a figure ``width`` inches wide."""
    arms = compared.arms
    return _pair(arms, lambda metric, ax: plot_scores(arms, metric, ax), len(arms), width, SCORE_BARS)


def profiles(compared: Compared, width: float = 6.9) -> Figure:
    """Performance profiles of the paper's methods, one arm each, in both metrics; a figure ``width`` inches wide."""
    figure, axes = _axes(width, 2.4, sharey=False)
    arms = compared.arms
    chosen = [arm for arm in map(partial(arm_of, arms), METHOD_STYLE) if arm is not None] or arms
    for ax, metric in zip(axes, DRAWN, strict=True):
        plot_profile(chosen, metric, ax)
        handles, labels = ax.get_legend_handles_labels()
        if ax.get_legend():
            ax.get_legend().remove()
    # Below the axes: steps from one corner to the other leave no room in them.
    figure.legend(handles, labels, loc="outside lower center", ncols=3 if width > 5 else 1, fontsize=6)
    return _captioned(figure, arms, width, PROFILE_BANDS)


def summary(compared: Compared, width: float = 6.9) -> Figure:
    """Does SA-AH-GRPO help, and why: it, AH-GRPO and the controls against GRPO; a figure ``width`` inches wide."""
    arms = compared.arms
    rows = len(compared.against[DRAWN[0]])
    return _pair(arms, lambda metric, ax: plot_gains(compared, metric, ax), rows, width, _gain_bars(arms))


PICTURES = {"seeds": overview, "profiles": profiles, "summary": summary}


def _gain_bars(arms):
    several = len({key[:2] for arm in arms for key in arm.runs}) > 1
    return (
        GAIN_BARS.replace("seeds", "warm starts, seeds", 1).replace(": seeds)", ": no problems)")
        if several
        else GAIN_BARS
    )


def _pair(arms, draw, rows, width, bars):
    figure, axes = _axes(width, 0.7 + 0.12 * len(_lines(arms, width, bars)) + 0.22 * max(rows, 2), sharey=True)
    for ax, metric in zip(axes, DRAWN, strict=True):
        draw(metric, ax)
    return _captioned(figure, arms, width, bars)


def _axes(width, height, sharey):
    """Two axes side by side, or one above the other where a single journal column has no room."""
    wide = width > 5
    shape, size = ((1, 2), (width, height)) if wide else ((2, 1), (width, 2 * height))
    figure, axes = plt.subplots(*shape, figsize=size, layout="constrained", sharey=sharey and wide)
    return figure, list(axes.flat)


def _captioned(figure, arms, width, bars):
    figure.suptitle("\n".join(_lines(arms, width, bars)), fontsize=7 if width > 5 else 5, color="0.3")
    return figure


def _lines(arms, width, bars):
    """The lines of a caption."""
    columns = 120 if width > 5 else 72
    return [line for text in (caption(arms), bars) for line in textwrap.wrap(text, columns)]


def styles(arms: Iterable[Arm]) -> list[dict[str, Any]]:
    """A style for each arm: its method's; further arms of a method take other markers, then spare colours too."""
    seen, found, spare = {}, [], itertools.cycle(itertools.product(SPARE, MARKERS))
    for arm in arms:
        method = arm.config.method
        style, nth = dict(STYLES[method]), seen.get(method, 0)
        if nth > len(MARKERS):
            style["color"], style["marker"] = next(spare)
        elif nth:
            style["marker"] = MARKERS[nth - 1]
        seen[method] = nth + 1
        found.append(style)
    return found


def save(
    compared: Compared,
    directory: str | Path,
    name: str,
    kinds: Iterable[str] = tuple(PICTURES),
    width: str = "double",
) -> dict[str, list[Path]]:
    """Draw those ``kinds`` that there are as ``kind-name`` in ``directory``: {kind: paths of PNG, SVG and PDF}.

    ``width`` is a key of ``style.WIDTHS``.

    There are no differences without GRPO, and no profiles of several settings of one method.
    """
    arms = compared.arms
    methods = {arm.config.method for arm in arms}
    possible = {
        "seeds": True,
        "profiles": len({(arm.config.method, arm.config.rule) for arm in arms}) == len(arms),
        "summary": "grpo" in methods and methods != {"grpo"},
    }
    chosen = [kind for kind in kinds if possible[kind]]
    with styled():
        return {
            kind: save_pictures(PICTURES[kind](compared, WIDTHS[width]), directory, f"{kind}-{name}") for kind in chosen
        }


EXPLORATORY = (
    "Exploratory: comparisons that were settled before their runs have a table of their own. Where the board of rules "
    "has another verdict on the same runs, the board counts: it is corrected for more comparisons."
)
"""Below the published tables of arms over seeds, as ``docs/preregistration.md`` promises."""


def save_all(runs: Iterable[Any], directory: str | Path, width: str = "double") -> list[Path]:
    """Every comparison of two seeds or more: its pictures, its tables and its answer in words; the paths written."""
    paths: list[Path] = []
    for name, arms in by_family(runs).items():
        compared = Compared.of(arms)
        paths += [path for drawn in save(compared, directory, name, width=width).values() for path in drawn]
        paths += compared.save(directory, f"seeds-{name}", f"{EXPLORATORY}\n\n{answer.paragraph(compared)}")
    return paths
