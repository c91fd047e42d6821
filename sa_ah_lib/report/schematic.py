"""The method schematic: token weights of the three methods on two logged rollouts of one prompt. Needs no torch."""

import numpy as np

from sa_ah_lib.analysis.results import MissingData
from sa_ah_lib.analysis.rounding import DRAWN, rounded_to
from sa_ah_lib.config import METHOD_LABELS, METHODS

SIDES = ("positive", "negative")
COLORS = {"entropy": "0.35", "grpo": "#0072B2", "ah-grpo": "#D55E00", "sa-ah-grpo": "#009E73"}


def token_weights(entropy, advantage, alpha, scope):
    """``weighting.rollout_weights`` for one rollout without padding, in numpy (Eq. 5 and 8); (T,) in, (T,) out.

    In float64: exp in float32 differs in its seventh digit from CPU to CPU.
    """
    discounted = scope == "all" or (scope == "negative" and advantage < 0)
    spent = np.cumsum(np.asarray(entropy, dtype=np.float64))
    return np.exp(-alpha * spent) if discounted else np.ones(len(spent))


@rounded_to(DRAWN)
def rows(family):
    """A row a token of a good and a bad rollout of one prompt, as SA-AH-GRPO sampled them in training.

    The pair is the one whose bad rollout spent most entropy. Its logged weights must be those recomputed here.

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
    chosen = max(pairs, key=lambda pair: (sum(pair[1]["entropy"]), -len(pair[0]["tokens"])))
    return [row for name, rollout in zip(SIDES, chosen, strict=True) for row in _row(name, rollout, result)]


def draw(rows, axes):
    """Four panels a rollout, above each other: entropy, then the weights of GRPO, AH-GRPO and SA-AH-GRPO.

    Args:
        rows: of ``rows``; axes: (4, 2), positive rollout on the left.
    """
    peak = max(row["entropy"] for row in rows)
    for column, name in zip(np.transpose(axes), SIDES, strict=True):
        members = [row for row in rows if row["rollout"] == name]
        column[0].set_title(f"{name} rollout, Â = {members[0]['advantage']:+.2f}", fontsize=7)
        edges = np.arange(len(members) + 1) - 0.5
        for ax, key in zip(column, COLORS, strict=True):
            ax.stairs([row[key] for row in members], edges, fill=True, color=COLORS[key])
            ax.set(ylim=(0, peak * 1.05 if key == "entropy" else 1.1), xlim=(-0.7, len(members) - 0.3), xticks=[])
            ax.tick_params(labelsize=6)
            if name == "positive":
                ax.set_ylabel("H / log V" if key == "entropy" else METHOD_LABELS[key], fontsize=6)
            else:
                ax.tick_params(labelleft=False)
        # About 6.5 token names of 5 points fit into an inch of the figure.
        short = len(members) <= 6.5 * column[-1].figure.get_figwidth()
        labels = [_shown(row["token"]) for row in members] if short else []
        column[-1].set_xticks(range(len(labels)), labels, rotation=90, fontsize=5, family="monospace")
        column[-1].set_xlabel("completion token" if short else f"{len(members)} completion tokens", fontsize=6)
    return axes


def _row(name, rollout, result):
    spent, alpha = (rollout["entropy"], rollout["advantage"]), result.config.alpha
    weights = {method: token_weights(*spent, alpha, METHODS[method]["scope"]) for method in COLORS if method in METHODS}
    if not np.allclose(weights["sa-ah-grpo"], rollout["weights"], atol=1e-3):
        raise ValueError(
            f"expected the logged weights of step {rollout['step']} to be exp(-alpha * cumulative entropy). "
            "They are not: the log was changed, or written by another rule."
        )
    for t, token in enumerate(rollout["tokens"]):
        head = {"rollout": name, "step": rollout["step"], "advantage": rollout["advantage"], "token": token}
        yield {**head, "entropy": rollout["entropy"][t], **{m: float(w[t]) for m, w in weights.items()}}


def _shown(token):
    text = token.replace("\n", "\\n").strip() or "␣"
    return text if len(text) <= 10 else text[:9] + "…"
