"""The method schematic: token weights of the three methods on a drawn and a logged pair of rollouts. Needs no torch."""

from itertools import product
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from sa_ah_lib.analysis.results import Family, MissingData
from sa_ah_lib.analysis.rounding import DRAWN, rounded_to
from sa_ah_lib.config import METHODS

SIDES, SOURCES = ("positive", "negative"), ("drawn", "logged")
COLORS = {"entropy": "0.35", "grpo": "#0072B2", "ah-grpo": "#D55E00", "sa-ah-grpo": "#009E73"}
ROWS = {"entropy": "H / log V", "grpo": "GRPO", "ah-grpo": "AH", "sa-ah-grpo": "SA-AH"}
SHOWN, LETTERS = 12, 5
"""Tokens of a rollout, and letters of a token, that one journal column has room for."""
DRAWN_ALPHA = 0.5
DRAWN_ROLLOUTS = {
    "positive": (+1.0, "3 apples and 4 make 7 : so the answer is 7".split(),
                 (0.30, 0.05, 0.40, 0.02, 0.60, 0.05, 0.35, 0.50, 0.02, 0.01, 0.01, 0.05)),
    "negative": (-1.0, "3 apples times 4 make 12 : so the answer is 12".split(),
                 (0.30, 0.05, 0.90, 0.03, 0.55, 0.20, 0.35, 0.50, 0.02, 0.01, 0.01, 0.10)),
}  # fmt: skip
"""{side: (advantage, tokens, normalised entropies)}, made up to show Eq. 5; every weight on them is computed."""


def token_weights(entropy: Any, advantage: float, alpha: float, scope: str) -> np.ndarray:
    """``weighting.rollout_weights`` for one rollout without padding, in numpy (Eq. 5 and 8); (T,) in, (T,) out.

    In float64: exp in float32 differs in its seventh digit from CPU to CPU.
    """
    discounted = scope == "all" or (scope == "negative" and advantage < 0)
    spent = np.cumsum(np.asarray(entropy, dtype=np.float64))
    return np.exp(-alpha * spent) if discounted else np.ones(len(spent))


@rounded_to(DRAWN)
def rows(family: Family) -> list[dict[str, Any]]:
    """One row per token of the drawn pair, and of a good and a bad rollout of one prompt from SA-AH-GRPO's log.

    The logged pair is the one whose bad rollout spent most entropy, of those with half of ``SHOWN`` tokens or more
    where there are any. Its logged weights must be those recomputed here.

    Raises:
        MissingData: no such pair was logged. ValueError: logged weights that the rule does not give.
    """
    result = family.method("sa-ah-grpo")
    pairs = [
        (good, bad)
        for good in result.completions
        for bad in result.completions
        if good["advantage"] > 0 > bad["advantage"] and (good["step"], good["prompt"]) == (bad["step"], bad["prompt"])
    ]
    if not pairs:
        raise MissingData(f"a positive and a negative rollout of one prompt, token by token, on {family.model}")
    readable = [pair for pair in pairs if min(len(rollout["tokens"]) for rollout in pair) >= SHOWN / 2]
    chosen = max(readable or pairs, key=lambda pair: (sum(pair[1]["entropy"]), -len(pair[0]["tokens"])))
    logged = [row for name, rollout in zip(SIDES, chosen, strict=True) for row in _logged(name, rollout, result)]
    return [*_drawn(), *logged]


def draw(rows: list[dict[str, Any]], axes: Any) -> Any:
    """Four tables of tokens below each other: the drawn rollouts, then the logged ones, successes first.

    Each row of a table is a number per token: entropy, then the weights of GRPO, AH-GRPO and SA-AH-GRPO; the darker the
    larger. Of a long rollout the first ``SHOWN`` tokens.

    Args:
        rows: of ``rows``; axes: (4,).
    """
    for ax, (source, side) in zip(axes, product(SOURCES, SIDES), strict=True):
        members = [row for row in rows if (row["source"], row["rollout"]) == (source, side)]
        shown = members[:SHOWN]
        cut = f", first {SHOWN} of {len(members)} tokens" if len(members) > SHOWN else ""
        origin = "entropies made up" if source == "drawn" else f"logged at step {members[0]['step']}"
        title = f"{side}, {origin}, Â = {members[0]['advantage']:+.2f}, α = {members[0]['alpha']:g}{cut}"
        ax.set_title(title, fontsize=6, loc="left", pad=2)
        for place, (key, name) in enumerate(ROWS.items()):
            top = max(row["entropy"] for row in rows) if key == "entropy" else 1.0
            for column, row in enumerate(shown):
                shade = 0.75 * min(1.0, row[key] / max(top, 1e-9))
                ax.add_patch(Rectangle((column, -place), 1, -1, facecolor=COLORS[key], alpha=shade, linewidth=0))
                ax.text(column + 0.5, -place - 0.5, _short(row[key]), ha="center", va="center", fontsize=4.5)
            ax.text(-0.15, -place - 0.5, name, ha="right", va="center", fontsize=5.5)
        for column, row in enumerate(shown):
            token = _shown(row["token"], LETTERS)
            ax.text(column + 0.5, 0.15, token, ha="center", va="bottom", fontsize=4.5, family="monospace")
        ax.set(xlim=(-0.05, SHOWN), ylim=(-len(ROWS), 1.1))
        ax.set_axis_off()
    return axes


def _drawn():
    for name, (advantage, tokens, entropy) in DRAWN_ROLLOUTS.items():
        yield from _rows({"source": "drawn", "rollout": name, "step": None}, tokens, entropy, advantage, DRAWN_ALPHA)


def _logged(name, rollout, result):
    head = {"source": "logged", "rollout": name, "step": rollout["step"]}
    tokens, entropy, advantage = rollout["tokens"], rollout["entropy"], rollout["advantage"]
    made = list(_rows(head, tokens, entropy, advantage, result.config.alpha))
    if not np.allclose([row["sa-ah-grpo"] for row in made], rollout["weights"], atol=1e-3):
        raise ValueError(
            f"expected the logged weights of step {rollout['step']} to be exp(-alpha * cumulative entropy). "
            "They are not: the log was changed, or written by another rule."
        )
    return made


def _rows(head, tokens, entropy, advantage, alpha):
    scopes = {method: METHODS[method]["scope"] for method in ROWS if method in METHODS}
    weights = {method: token_weights(entropy, advantage, alpha, scope) for method, scope in scopes.items()}
    for t, token in enumerate(tokens):
        values = {"entropy": float(entropy[t]), **{method: float(w[t]) for method, w in weights.items()}}
        yield {**head, "alpha": alpha, "advantage": advantage, "token": token, **values}


def _short(value):
    """Two decimals without a leading zero: .98, 1."""
    return f"{value:.2f}".removeprefix("0") if value < 0.995 else f"{value:.3g}"


def _shown(token, letters):
    text = token.replace("\n", "⏎").strip() or "␣"
    return text if len(text) <= letters else text[: letters - 1] + "…"
