"""Statements of the paper about its method and its place held against its equations and others' work. No torch."""

import math
from itertools import chain, combinations

from sa_ah_lib.paper.audit_tables import Check, grade
from sa_ah_lib.paper.printed import BASE, DIAGNOSTICS, LARGE, RAW_BASE, SMALL
from sa_ah_lib.rewards import total_reward

FORMAT_SET = (-0.5, 0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5)


def checks() -> list[Check]:
    """Every check of the method's description."""
    return [*_rewards(), _alpha_zero(), *_rule(), _conservative(), *_outside()]


def _rewards():
    full = "<start_working_out>1+1=2\n2+1=3\n3+1=4\n4+1=5\n5+1=6</start_working_out><SOLUTION>6</SOLUTION>"
    totals = [total_reward(text, 6.0) for text in (full, "The answer is 6")]
    parts = (0.2, 0.3, 0.2, 0.3)
    sums = {round(sum(c), 1) for c in chain.from_iterable(combinations(parts, k) for k in range(5))} | {-0.5, 1.5}
    return [
        Check(
            "Section 3.4",
            "full-credit example 7.5, partial-credit example 4.1",
            f"this project's rewards give {totals[0]:g} and {totals[1]:g}",
            grade(totals == [7.5, 4.1]),
            "For the second, a text without tags counts as its own reasoning block: read as empty, it would score 4.0.",
        ),
        Check(
            "Section 3.4",
            "r_format takes 11 values",
            f"the sums of 0.2, 0.3, 0.2, 0.3, with −0.5 and 1.5: {len(sums)}",
            grade(sums == set(FORMAT_SET)),
            "The printed set is complete.",
        ),
    ]


def _alpha_zero():
    return Check(
        "Sections 1, 3.1 and 3.3",
        "α = 0 recovers standard GRPO",
        "Eq. 6 at α = 0 is one mean over all tokens of the group; Eq. 2 is the mean over rollouts of each rollout's "
        "mean",
        "partly",
        "The two differ unless all completions are equally long. As Table 5 calls α = 0 GRPO, its GRPO is presumably "
        "Eq. 6.",
    )


def _rule():
    entropies = (0.6, 0.01, 0.01, 0.01)
    weights = [math.exp(-0.5 * sum(entropies[: t + 1])) for t in range(len(entropies))]
    return [
        Check(
            "Sections 3.2, 3.3 and 5.2",
            "the discount reduces the gradient at high-entropy token positions",
            f"entropies {', '.join(f'{h:g}' for h in entropies)} at α = 0.5 give the weights "
            f"{', '.join(f'{w:.2f}' for w in weights)}",
            "partly",
            "Eq. 5 is a product over all tokens before: one uncertain token discounts every later one as much, and the "
            "certain end of a rollout weighs least. Section 3.2 says so, the other sections do not.",
        ),
        Check(
            "Eq. 3 and Algorithm 1, line 8",
            "top-K entropy, K = 500",
            "whether p is renormalised over the K tokens is not said: Eq. 3 has all V, line 8 sums −p log p",
            "note",
            "Here p is the softmax over the whole vocabulary and not renormalised; renormalised, a flat distribution's "
            "entropy would be larger.",
        ),
        Check(
            "Eq. 2, 6 and 9, clip ε = 0.2",
            "a clipped surrogate",
            "Algorithm 1 makes one update from each batch: its ratio is 1 everywhere, inside the clip of [0.8, 1.2]",
            "note",
            "So the clip never acts, unless old log-probabilities come from another engine or an older policy.",
        ),
    ]


def _conservative():
    return Check(
        "Table 2 and Section 4.1",
        "zero-shot Pass@1 reported conservatively, 1.5 points below the raw evaluation",
        f"{RAW_BASE[LARGE]} to {BASE[LARGE]} and {RAW_BASE[SMALL]} to {BASE[SMALL]}: every gain over it is larger",
        "no",
        "A conservative baseline is one that is hard to beat. The trained models were evaluated with a prompt format, "
        "too, and were not lowered.",
    )


def _outside():
    return [
        Check(
            "Section 1",
            "first entropy-adaptive token discounting, and first asymmetric one, in RLVR",
            "GTPO (arXiv 2508.04349, August 2025) weights GRPO's tokens by policy entropy, otherwise on failures "
            "than on successes",
            "partly",
            "The cumulative horizon, and its use on failures alone, are this paper's; entropy-based and asymmetric "
            "token weights are not new.",
        ),
        Check(
            "Section 4.1",
            f"zero-shot {RAW_BASE[SMALL]} (1.5B) and {RAW_BASE[LARGE]} (3B) before adjustment",
            "Qwen publishes 0.732 and 0.867 (own prompt, all 1,319 problems)",
            "note",
            "Both are above the best trained Pass@1 here, 0.686 and 0.862. On 1.5B, whose mean reward is "
            f"{DIAGNOSTICS[SMALL][0][1]} of 7.5 at step 5, part of the gain may be learning the format; on 3B, at "
            f"{DIAGNOSTICS[LARGE][0][1]}, little of it was left to learn.",
        ),
        Check(
            "Section 7",
            "one seed",
            "every comparison is one run against one run",
            "note",
            "The paper says so; no interval in it covers the variation between seeds.",
        ),
    ]
