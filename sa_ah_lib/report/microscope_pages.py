"""The gradient microscope's tables and pictures, from its JSON files. Needs no torch."""

import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from sa_ah_lib.analysis.table import DASH, Html, Table
from sa_ah_lib.report import forest
from sa_ah_lib.report.book import image
from sa_ah_lib.report.style import WIDTHS, caption, legend_above, save_pictures, save_rows, styled

PANELS = {
    "noise ratio": "noise of a step / GRPO's",
    "signal-to-noise ratio": "signal-to-noise / GRPO's",
    "cosine": "cosine with GRPO's",
}
"""{measure: axis}: what the picture of gradients shows of every rule."""
COLUMNS = {
    "norm ratio": "norm / GRPO's", "noise ratio": "noise / GRPO's", "signal-to-noise ratio": "signal-to-noise / GRPO's",
    "cosine": "cosine with GRPO's", "signal_to_noise": "signal-to-noise of a step", "step_cosine": "step's cosine",
}  # fmt: skip
WHOLE = ("all tokens", "all layers")
DOT = {"color": "0.25", "marker": "o", "markersize": 4}
DRAWN = {
    "SA-AH-GRPO": {"color": "#009E73", "marker": "^"}, "Position decay": {"color": "#CC79A7", "marker": "v"},
    "Shuffled entropy": {"color": "#56B4E9", "marker": "P"},
    "Entropy, not cumulative": {"color": "#E69F00", "marker": "<"},
    "Top-entropy mask": {"color": "0.4", "marker": "h"},
}  # fmt: skip
"""Rules whose weights the picture of tokens shows, on failures, which are all that they change."""

Study = dict[str, Any]


def read(path: str | Path) -> Study:
    """A study as ``microscope.study.save`` wrote it: "settings" and "rows"."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def told(settings: dict[str, Any]) -> str:
    """What a study was made on, for a caption."""
    if "warm_start" not in settings:
        return f"measured: {settings['scale']}, {settings['groups']} logged groups, α = {settings['alpha']:g}"
    return (
        f"measured: {settings['scale']}, warm start {settings['warm_start']}, {settings['adapter']} adapter, "
        f"{settings['prompts']} prompts, {settings['rollouts']} rollouts, α = {settings['alpha']:g}, "
        f"steps of {settings['per_step']} prompts, {settings['device']}"
    )


def gradient_table(study: Study, name: str, part: str = WHOLE[0], layers: str = WHOLE[1]) -> Table:
    """One row per rule: its gradient beside GRPO's on the same rollouts, with 95% intervals."""
    found = {(r["rule"], r["measure"]): r for r in study["rows"] if (r["part"], r["layers"]) == (part, layers)}
    rules = list(dict.fromkeys(rule for rule, _ in found))
    columns = {key: title for key, title in COLUMNS.items() if (rules[0], key) in found}
    rows = [[rule, *(_interval(found[rule, key]) for key in columns)] for rule in rules]
    notes = (
        "95% bootstrap intervals over prompts. Noise: root of the trace of the covariance of a step's gradient. Norms "
        "and cosines are of the mean gradient, estimated from pairs of different prompts. Step's cosine: what the "
        "gradient of one step has with GRPO's mean gradient. Cosines are cut at 1. A bound is missing where it is "
        "infinite, both where more than 5% of the resamples have no number: there the rule's mean gradient or GRPO's "
        "is estimated at 0.",
    )
    title = f"Gradients of frozen rollouts, {told(study['settings'])}"
    return Table(name, title, ["rule", *columns.values()], rows, notes)


def replay_table(study: Study, name: str) -> Table:
    """One row per rule: which tokens of successes and failures it trains, and how much it is SA-AH-GRPO and GRPO."""
    whole = {(r["rule"], r["sign"]): r for r in study["rows"] if r["by"] == "all"}
    overlaps = {(r["rule"], r["bin"]): r["overlap"] for r in study["rows"] if r["by"] == "overlap"}
    rows = []
    for rule in dict.fromkeys(rule for rule, _ in whole):
        cells = [_number(whole[rule, sign][key]) for sign in ("successes", "failures") for key in ("trained", "weight")]
        rows.append([rule, *cells, *(_number(overlaps.get((rule, other))) for other in ("GRPO", "SA-AH-GRPO"))])
    header = ["rule", "trained, successes", "mean weight, successes", "trained, failures", "mean weight, failures",
              "overlap with GRPO", "overlap with SA-AH"]  # fmt: skip
    notes = (
        "Trained: share of tokens with a weight other than 0. Overlap: sum of the smaller over sum of the larger "
        "weights, both scaled to mean 1; 1 where two rules train alike, — where a rule has negative weights.",
    )
    return Table(name, f"Which tokens a rule trains, {told(study['settings'])}", header, rows, notes)


def plot_gradients(study: Study, width: str = "double") -> Figure:
    """Every rule's noise, signal-to-noise and cosine beside GRPO's, with 95% intervals.

    ``width`` is a key of ``WIDTHS``: in one column the panels stand above each other.
    """
    found = {(r["rule"], r["measure"]): r for r in study["rows"] if (r["part"], r["layers"]) == WHOLE}
    rules = list(dict.fromkeys(rule for rule, _ in found))
    with styled():
        figure, axes = _panels(len(PANELS), width, 0.9 + 0.18 * len(rules))
        for ax, (measure, label) in zip(axes, PANELS.items(), strict=True):
            for place, rule in enumerate(rules):
                seen = found[rule, measure]
                if seen["estimate"] is None:
                    continue
                if rule == "GRPO":
                    ax.plot(seen["estimate"], place, "|", color="0.15", markersize=8)
                    continue
                low, high = (np.nan if seen[end] is None else seen[end] for end in ("low", "high"))
                forest.interval(ax, place, seen["estimate"], low, high, DOT)
            ax.axvline(1, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
            ax.set(xlabel=label, yticks=range(len(rules)), yticklabels=rules)
        axes[0].invert_yaxis()
        lines = "bars: 95% bootstrap intervals over prompts; dotted: plain GRPO"
        return caption(figure, f"Gradients of frozen rollouts. {told(study['settings'])}; {lines}")


def plot_tokens(study: Study, width: str = "double") -> Figure:
    """Mean weight on failures' tokens by tenths of position and of entropy, for rules of one mean weight."""
    with styled():
        figure, axes = _panels(2, width, 2.7)
        for ax, by in zip(axes, ("position", "entropy"), strict=True):
            for rule, style in DRAWN.items():
                rows = [r for r in study["rows"] if (r["rule"], r["sign"], r["by"]) == (rule, "failures", by)]
                weights = [np.nan if row["weight"] is None else row["weight"] for row in rows]
                ax.plot([row["bin"] for row in rows], weights, label=rule, **style)
            ax.set(xlabel=f"tenth of tokens by {by}", ylim=(0, 1.05), xticks=range(1, 11))
            ax.set_ylabel("mean weight on failures")
        legend_above(axes[0], columns=1)
        return caption(figure, f"Which tokens a rule trains. {told(study['settings'])}")


def _panels(count, width, height):
    """Axes side by side, or one above the other where a single journal column has no room; labels on the outer ones."""
    beside = width == "double"
    shape, size = ((1, count), (WIDTHS[width], height)) if beside else ((count, 1), (WIDTHS[width], count * height))
    figure, axes = plt.subplots(*shape, figsize=size, sharey=True, layout="constrained")
    return figure, axes


def save(logs: str | Path, out: str | Path, width: str = "double") -> list[Path]:
    """Tables, pictures and tidy CSV of every study below ``logs``; the paths."""
    paths: list[Path] = []
    for path in sorted(Path(logs).glob("*.json")):
        study, replayed = read(path), path.stem.startswith("replay")
        paths += _table(study, path.stem).save(out)
        paths += save_pictures((plot_tokens if replayed else plot_gradients)(study, width), out, path.stem)
        paths.append(save_rows(study["rows"], out, f"{path.stem}-rows"))
    return paths


def show(logs: str | Path) -> Html:
    """Tables and pictures of every study below ``logs``/microscope for a notebook; how to make one where none is."""
    with tempfile.TemporaryDirectory() as scratch:
        save(Path(logs) / "microscope", scratch)
        parts = []
        for path in sorted(Path(logs).glob("microscope/*.json")):
            parts.append(_table(read(path), path.stem)._repr_html_())
            parts.append(image(Path(scratch) / f"{path.stem}.png", "double", path.stem))
    return Html("".join(parts) or "<p>No study here. Make one: python -m sa_ah_lib.microscope --scale micro-sum</p>")


def _table(study, name):
    return (replay_table if name.startswith("replay") else gradient_table)(study, name)


def _interval(row):
    value, low, high = (row[key] for key in ("estimate", "low", "high"))
    if value is None:
        return DASH
    bounds = [DASH if bound is None else f"{bound:.2f}" for bound in (low, high)]
    return f"{value:.2f}" + ("" if low is not None and low == high else f" [{', '.join(bounds)}]")


def _number(value):
    return DASH if value is None or value != value else f"{value:.2f}"
