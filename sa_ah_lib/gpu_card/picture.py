"""The card's picture: how far each trainer is from the reference, and what time and memory a step costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from sa_ah_lib.report import style

BLUE, LIMIT = "#0072B2", "#D55E00"
SETTINGS = (("#0072B2", "o"), ("#56B4E9", "s"), ("#D55E00", "^"), ("#E69F00", "D"))
Found = Sequence[tuple[str, dict[str, Any]]]
"""(title, result) of stages."""


def save(folder: str | Path, title: str, equalities: Found, times: Found) -> list[Path]:
    """Write card.png, card.svg and card.pdf below ``folder``; the paths. A part that was not measured says so.

    Args:
        title: above the picture: which card, when, and whether it is one.
        equalities: stages whose results have "errors", relative, of each case, and their "limit".
        times: stages whose results have "variants", with "time_ratio" and "loss_peak_mib" of each.
    """
    with style.styled():
        figure, axes = plt.subplots(1, 3, figsize=(6.9, 2.9), layout="constrained", width_ratios=(1.2, 1, 1))
        _errors(axes[0], equalities)
        _variants(axes[1], times, "time_ratio", "step time over Unsloth's plain GRPO", 1)
        _variants(axes[2], times, "loss_peak_mib", "peak memory of the loss (GiB)", 1 / 1024)
        axes[2].set_yticklabels([])
        axes[2].set_xlim(left=0)
        if times:
            handles = axes[1].get_legend_handles_labels()
            figure.legend(*handles, loc="outside lower center", ncols=2)
        style.caption(figure, title)
    return style.save_pictures(figure, folder, "card")


def _errors(ax: Axes, found: Found) -> None:
    """One dot for each case on a logarithmic axis, and the limit as a bar."""
    for row, (_, result) in enumerate(found):
        errors = sorted(max(error, 1e-9) for error in result["errors"].values())
        # Side by side where they would hide one another.
        spread = [row + 0.06 * ((7 * i) % 11 - 5) * (len(errors) > 1) for i in range(len(errors))]
        ax.plot(errors, spread, "o", ms=2.5, color=BLUE, alpha=0.6, mew=0)
        ax.plot([result["limit"]] * 2, [row - 0.4, row + 0.4], color=LIMIT, lw=1.6)
    ax.set(xscale="log", xlabel="error of loss and gradients\n(one dot a case; bar: limit)")
    _rows(ax, [title.removeprefix("Losses and gradients, ").replace(", ", "\n") for title, _ in found])


def _variants(ax: Axes, found: Found, key: str, label: str, scale: float) -> None:
    """One marker for each setting; variants from above to below."""
    variants = list(dict.fromkeys((v["backend"], v["variant"]) for _, r in found for v in r["variants"]))
    for number, ((title, result), (color, marker)) in enumerate(zip(found, SETTINGS, strict=False)):
        # A little apart, so that none hides another.
        aside = 0.15 * (number - (len(found) - 1) / 2)
        at = {(v["backend"], v["variant"]): v[key] * scale for v in result["variants"]}
        places = [(at[variant], row + aside) for row, variant in enumerate(variants) if variant in at]
        ax.plot(*zip(*places, strict=True), marker, color=color, ms=4, alpha=0.85, label=title)
    ax.set(xlabel=label.replace(" over", "\nover").replace(" of", "\nof"))
    _rows(ax, [f"{'Unsloth' if backend == 'unsloth' else 'TRL'}, {name}" for backend, name in variants])


def _rows(ax: Axes, names: Sequence[str]) -> None:
    if not names:
        ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", color="0.4")
        ax.set(xticks=[], yticks=[])
        return
    ax.set(yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x")
