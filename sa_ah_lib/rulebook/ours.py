"""Records of the paper's rule and of this project's controls."""

import math

from sa_ah_lib.rulebook.record import SCOPES, Record, add

_ENTROPY = ("entropy", "mask", "advantages")
_MATCHED = (*_ENTROPY, "groups")
_SCOPED = {"alpha": 0.5, "scope": "negative"}
_RANGES = {"scope": SCOPES, "alpha": (0.0, math.inf)}  # a control only discounts
_GRPO = {"alpha": 0.0}
_MATCH = (
    "The strength c is solved in every group, so that the mean weight of the discounted tokens is the one that Eq. 5 "
    "gives them, or as near as the shape allows; nothing depends on how groups are split into micro-batches or "
    "processes"
)


def _control(name, label, exponent, more_inputs=(), limits=_MATCH):
    return Record(
        name=name, label=label, source="this project", equation=rf"\exp(-c\,D_t),\quad D_t = {exponent}",
        inputs=(*_MATCHED, *more_inputs), denominator="group", defaults=_SCOPED, ranges=_RANGES, neutral=_GRPO,
        limits=limits,
        checked="scipy's root finder and plain loops, in the tests",
    )  # fmt: skip


add(
    Record(
        name="cumulative", label="Cumulative entropy (GRPO, AH-GRPO, SA-AH-GRPO, mirror)", source="2606.05434",
        equation=r"\exp\left(-\alpha \sum_{s \le t} H_s / \log V\right) \text{ on rollouts in scope, else } 1",
        inputs=_ENTROPY, denominator="group", defaults=_SCOPED, ranges={"scope": SCOPES}, neutral=_GRPO,
        checked="the paper, Eq. 3 to 9",
        limits="scope none is GRPO, all AH-GRPO, negative SA-AH-GRPO, positive its mirror",
    ),
    _control("position", "Position decay", "t"),
    _control(
        "shuffled", "Shuffled entropy", r"\sum_{s \le t} H_{\pi(s)} / \log V", ("seed",),
        _MATCH + "; the order pi is drawn anew for every rollout and step, alike in a step's micro-batches",
    ),
    _control("scalar", "One scalar", "1"),
    _control("local", "Entropy, not cumulative", r"H_t / \log V"),
    _control("inverse", "Inverse entropy", r"\left(\max H - H_t\right) / \log V"),
    Record(
        name="top_entropy", label="Top-entropy mask, matched", source="this project",
        equation=r"1 \text{ on the } \lfloor \bar w n \rceil \text{ most uncertain of a group's discounted tokens, "
        r"else } 0", inputs=_MATCHED, denominator="group", defaults=_SCOPED, ranges=_RANGES, neutral=_GRPO,
        limits="the mean weight is matched to half a token a group", checked="plain loops, in the tests",
    ),
    Record(
        name="first_token", label="First token only", source="this project", equation=r"\mathbf 1[t = 1]",
        inputs=("mask",), denominator="group", limits="no parameter makes it GRPO",
    ),
)  # fmt: skip
