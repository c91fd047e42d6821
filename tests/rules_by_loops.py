"""Every published rule once more, token by token in plain Python: what the registry's tensors are tested against.

A rule gets ``rollouts``, a list of dictionaries with ``H`` (entropies in nats), ``h`` (the same over log V), ``A``,
``group``, ``ids`` and ``logp`` of one rollout's own tokens, and returns a list of weights for each.
"""

import math
import random

import torch


def rollouts_of(entropy, mask, advantages, groups, log_vocabulary, ids=None, log_probs=None):
    """Lists of each rollout's own tokens, from (B, T) tensors in any columns."""
    rows = []
    for i in range(len(mask)):
        places = [t for t in range(mask.shape[1]) if mask[i, t]]
        pick = lambda values, i=i, places=places: None if values is None else [values[i, t].item() for t in places]  # noqa: E731
        spent = pick(entropy)
        rows.append(
            {
                "h": spent, "H": [h * log_vocabulary for h in spent], "A": advantages[i].item(),
                "group": int(groups[i]), "ids": pick(ids), "logp": pick(log_probs),
            }
        )  # fmt: skip
    return rows


def on_columns(weights, mask):
    """(B, T) float64 of lists of weights, 1 where the mask is 0."""
    found = torch.ones(mask.shape, dtype=torch.float64)
    found[mask.bool()] = torch.tensor([w for row in weights for w in row], dtype=torch.float64)
    return found


def groups_of(rollouts):
    return [[r for r in rollouts if r["group"] == g] for g in sorted({r["group"] for r in rollouts})]


def each(rollouts, weigh):
    """weigh(rollout, t) for all, t from 0."""
    return [[float(weigh(r, t)) for t in range(len(r["h"]))] for r in rollouts]


def forking_tokens(rollouts, keep=0.2):
    cells = [(h, -i, -t) for i, r in enumerate(rollouts) for t, h in enumerate(r["h"])]
    kept = sorted(cells, reverse=True)[: math.ceil(round(keep * len(cells), 6))]
    return [[float((h, -i, -t) in kept) for t, h in enumerate(r["h"])] for i, r in enumerate(rollouts)]


def interpolated(values, q):
    values, place = sorted(values), q * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def forking_tokens_trl(rollouts, keep=0.2):
    threshold = interpolated([h for r in rollouts for h in r["h"]], 1 - keep)
    return each(rollouts, lambda r, t: r["h"][t] >= threshold - 1e-12)


def four_quadrants(rollouts, successes="high", failures="low", share=0.2):
    values = sorted(h for r in rollouts for h in r["h"])
    least, most = (values[math.ceil(round(q * (len(values) - 1), 6))] for q in (1 - share, share))
    holds = {
        "all": lambda h: True, "none": lambda h: False, "high": lambda h: h >= least, "low": lambda h: h <= most,
        "not_high": lambda h: h < least, "not_low": lambda h: h > most,
    }  # fmt: skip
    return each(rollouts, lambda r, t: r["A"] == 0 or holds[successes if r["A"] > 0 else failures](r["h"][t]))


def entropy_advantage(rollouts, strength=0.4, cap=2.0):
    shaped = lambda r, t: r["A"] + min(strength * r["H"][t], abs(r["A"]) / cap)  # noqa: E731
    return each(rollouts, lambda r, t: shaped(r, t) / r["A"] if r["A"] else 1.0)


def gtpo(rollouts, base=1.0, bonus=0.1):
    def weigh(r, t):
        if not r["A"]:
            return 1.0
        alike = [k for k in rollouts if k["group"] == r["group"] and k["A"] * r["A"] > 0 and len(k["h"]) > t]
        score = lambda k: k["h"][t] if r["A"] > 0 else 1 / k["h"][t]  # noqa: E731
        return base + bonus * len(alike) * score(r) / sum(score(k) for k in alike)

    return each(rollouts, weigh)


def edge(rollouts):
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    whole = {g[0]["group"]: mean([mean(r["h"]) for r in g if r["h"]]) for g in groups_of(rollouts)}
    return each(rollouts, lambda r, t: whole[r["group"]] / mean(r["h"]))


def prefix_discount(rollouts, gain=0.5):
    return each(rollouts, lambda r, t: 1 + gain * sum(r["h"][t:]) / sum(r["h"]))


def first_token(rollouts):
    return each(rollouts, lambda r, t: t == 0)


def w_reinforce(rollouts, successes=0.1, failures=1.0):
    return each(rollouts, lambda r, t: successes if r["A"] > 0 else failures if r["A"] < 0 else 1.0)


def prefix_mask(rollouts, start=0.15, end=0.35, progress=0.0):
    eta = start + (end - start) * progress
    return each(rollouts, lambda r, t: t + 1 <= eta * len(r["h"]) + 1e-9)


def lambda_grpo(rollouts, power=1.0, scale=1 / 9):
    factors = {}
    for group in groups_of(rollouts):
        lengths = [len(r["h"]) for r in group]
        mean = sum(lengths) / len(lengths)
        spread = math.sqrt(sum((n - mean) ** 2 for n in lengths) / len(lengths)) or 1.0
        scores = [math.exp((1 + scale * (n - mean) / spread) ** power) for n in lengths]
        factors |= {id(r): len(group) * s / sum(scores) for r, s in zip(group, scores, strict=True)}
    return each(rollouts, lambda r, t: factors[id(r)])


def advantage_reweighting(rollouts, share=0.3):
    return each(rollouts, lambda r, t: share * math.exp(r["logp"][t]) + 1 - share)


def covariances(rollouts):
    """[[covariance]]: the centred log-probability times the centred advantage, both over all tokens."""
    cells = [(x, r["A"]) for r in rollouts for x in r["logp"]]
    mean_x, mean_a = (sum(column) / len(cells) for column in zip(*cells, strict=True))
    return [[(x - mean_x) * (r["A"] - mean_a) for x in r["logp"]] for r in rollouts]


def tr_grpo(rollouts, gain=2.0, temperature=1 / 9, offset=0.25, low=1.0, high=1.4):
    raw = lambda x: gain * (1 / (1 + math.exp(-math.exp(x) / temperature)) - offset)  # noqa: E731
    return each(rollouts, lambda r, t: min(max(raw(r["logp"][t]), low), high))


def shared_run(rollout, others, turn):
    """How many tokens from the start (turn 1) or the end (-1) some rollout of the other sign has at the same place."""
    own, length = rollout["ids"][::turn], 0
    while length < len(own) and any(k["ids"][::turn][length : length + 1] == [own[length]] for k in others):
        length += 1
    return length


def gtpo_conflict(rollouts, amplify=2.0, entropy_scale=0.1, entropy_limit=0.7):
    found = []
    for r in rollouts:
        others = [k for k in rollouts if k["group"] == r["group"] and k["A"] * r["A"] < 0]
        n, ahead, behind = len(r["ids"]), *(shared_run(r, others, turn) for turn in (1, -1))
        times = [(t < ahead) + (t >= n - behind) for t in range(n)]
        base = [amplify**k if r["A"] >= 0 else float(k == 0) for k in times] if r["A"] else [1.0] * n
        mean = sum(r["H"]) / n if n else 0.0
        factor = 0.0 if mean > entropy_limit else 1 - entropy_scale * mean / r["A"] if r["A"] else 1.0
        found.append([w / max(1, sum(k > 0 for k in times) if r["A"] else 0) * factor for w in base])
    return found


def hicra(rollouts, amplification=0.2, grams=()):
    def planning(r, t):
        places = [(s, gram) for gram in grams for s in range(max(0, t - len(gram) + 1), t + 1)]
        return any(r["ids"][s : s + len(gram)] == list(gram) for s, gram in places)

    sign = lambda a: (a > 0) - (a < 0)  # noqa: E731
    return each(rollouts, lambda r, t: 1 + amplification * sign(r["A"]) * planning(r, t))


LOOPS = {
    function.__name__: function
    for function in (
        forking_tokens, forking_tokens_trl, four_quadrants, entropy_advantage, gtpo, edge, prefix_discount, first_token,
        w_reinforce, prefix_mask, lambda_grpo, advantage_reweighting, tr_grpo, gtpo_conflict, hicra,
    )
}  # fmt: skip
"""Every rule that draws nothing; ``clip_cov`` and the shuffle have tests of their own."""


def some_grams(ids, mask, count=3, seed=0):
    """A few n-grams of one to three tokens that do occur."""
    rows = [[ids[i, t].item() for t in range(mask.shape[1]) if mask[i, t]] for i in range(len(mask))]
    chosen, rng = [], random.Random(seed)
    for row in rng.sample([row for row in rows if row], min(count, sum(bool(row) for row in rows))):
        start = rng.randrange(len(row))
        chosen.append(tuple(row[start : start + rng.randint(1, 3)]))
    return tuple(chosen)
