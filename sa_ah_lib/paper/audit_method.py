"""Statements of the paper about its method and its place held against its equations and others' work. No torch."""

from itertools import chain, combinations

from sa_ah_lib.paper.audit_tables import Check, grade
from sa_ah_lib.paper.printed import DIAGNOSTICS, LARGE, RAW_BASE, SMALL
from sa_ah_lib.rewards import reward_parts

FORMAT_SET = (-0.5, 0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5)


def checks():
    """Every check of the method's description."""
    return [*_rewards(), _alpha_zero(), *_outside()]


def _rewards():
    full = "<start_working_out>1+1=2\n2+1=3\n3+1=4\n4+1=5\n5+1=6</start_working_out><SOLUTION>6</SOLUTION>"
    totals = [sum(reward_parts(text, 6.0).values()) for text in (full, "The answer is 6")]
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
