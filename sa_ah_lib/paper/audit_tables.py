"""The paper's Tables 1 to 5 recomputed from each other: half-widths, peaks, repeated numbers. Needs no torch."""

from dataclasses import dataclass

from sa_ah_lib.analysis.stats import expected_peak, half_width
from sa_ah_lib.paper.printed import BASE, CHECKPOINTS, LARGE, PROBLEMS, RAW_BASE, SMALL, SUMMARY

NAMES = {LARGE: "3B", SMALL: "1.5B"}
METHODS = ("grpo", "ah-grpo", "sa-ah-grpo")


@dataclass(frozen=True)
class Check:
    """One line of the audit: what is printed where, what the paper's own numbers give, whether they agree, and why
    it matters. ``agrees`` is "yes", "no", "partly", or "note" where nothing is claimed."""

    where: str
    printed: str
    recomputed: str
    agrees: str
    why: str


def grade(*parts: bool) -> str:
    """``Check.agrees``: yes where every part of a statement holds, no where none does, else partly."""
    return "yes" if all(parts) else "partly" if any(parts) else "no"


def checks() -> list[Check]:
    """Every check of the tables, in their order."""
    found = [
        _hyperparameters(),
        *_half_widths(),
        _half_width_range(),
        _peaks(),
        _repeated_rows(),
        _repeated_variances(),
    ]
    return found + [
        _windows(),
        *_base(),
        _partial(),
        _luck(),
    ]


def _hyperparameters():
    seen = {steps: steps * 4 for steps in (150, 180)}
    return Check(
        "Table 1",
        "4 prompts a step, 800 training examples, 150 or 180 steps",
        f"{seen[150]} or {seen[180]} prompts drawn: no run reaches all 800",
        "note",
        "Read with the accumulation of 2 as a factor, it is 1,200 or 1,440 prompts; the paper does not say which.",
    )


def _half_widths():
    cells = [(key, *pair) for key, row in SUMMARY.items() for pair in (row[:2], row[2:4]) if pair[0]]
    wrong = [(k, r, h, n) for k, r, h in cells if (n := f"{half_width(float(r), PROBLEMS):.3f}") != h]
    right = len(cells) - len(wrong)
    lines = [
        Check(
            "Table 2",
            f"± of {len(cells)} Pass@1 values",
            f"{right} of {len(cells)} agree with 1.96 sqrt(p(1-p)/500)",
            "yes" if not wrong else "partly",
            "The intervals follow Section 4.4's formula, apart from the next lines.",
        )
    ]
    for (scale, method), rate, printed, recomputed in wrong:
        where = f"Table 2, {NAMES[scale]} {method}"
        raw = f"{half_width(RAW_BASE[scale], PROBLEMS):.3f}"
        why = "A slip of the third decimal; it changes no conclusion."
        if method == "zero-shot" and raw == printed:
            why = f"It is the half-width at the raw {RAW_BASE[scale]}, kept when the base was lowered by hand."
        lines.append(Check(where, f"{rate} ± {printed}", f"± {recomputed}", "no", why))
    return lines


def _half_width_range():
    rates = [float(r) for row in SUMMARY.values() for r in (row[0], row[2]) if r]
    widths = sorted(half_width(rate, PROBLEMS) for rate in rates)
    low, high = f"{widths[0]:.3f}", f"{widths[-1]:.3f}"
    return Check(
        "Section 7",
        "95% CI of ±0.031 to ±0.042",
        f"±{low} to ±{high}",
        grade((low, high) == ("0.031", "0.042")),
        "These are intervals of one Pass@1. That of a difference is 1.4 times as wide, 0.04 to 0.06, if the answers "
        "are independent. They are to the same problems, where a paired interval may be narrower, but are not "
        "published.",
    )


def _peaks():
    wrong = []
    for scale in (LARGE, SMALL):
        for method in METHODS:
            rates = CHECKPOINTS[scale, method, 0.0 if method == "grpo" else 0.5]
            final, _, peak = SUMMARY[scale, method][:3]
            wrong += [] if (f"{rates[-1]:.3f}", f"{max(rates):.3f}") == (final, peak) else [(scale, method)]
    return Check(
        "Table 2 from Tables 3 and 4",
        "6 peaks and 6 finals",
        "all agree" if not wrong else f"differ: {wrong}",
        grade(not wrong),
        "Summary and checkpoints come from the same evaluations.",
    )


def _repeated_rows():
    table_5 = {"GRPO": (0.656, 0.666, 0.650, 0.668, 0.660), "AH-GRPO": (0.654, 0.676, 0.674, 0.660, 0.650)}
    table_4 = {"GRPO": CHECKPOINTS[SMALL, "grpo", 0.0], "AH-GRPO": CHECKPOINTS[SMALL, "ah-grpo", 0.5]}
    return Check(
        "Table 5, rows α = 0 and 0.5",
        "the values of Table 4",
        "identical" if table_4 == table_5 else "different",
        grade(table_4 == table_5),
        "The sweep reuses the main runs; its rows are not independent repeats.",
    )


def _repeated_variances():
    same = [m for m in METHODS if SUMMARY[LARGE, m][4:] == SUMMARY[SMALL, m][4:]]
    numbers = ", ".join(number for method in same for number in SUMMARY[LARGE, method][4:])
    return Check(
        "Table 2, Train Var and Mean KL",
        f"3B: {numbers}",
        f"the 1.5B rows print the same for: {', '.join(same) or 'no method'}",
        grade(not same),
        "Four equal numbers from two models are next to impossible, so one scale's are not its own. Which is not "
        "stated, and both ratios below, 3.6 and 2.6, divide by them.",
    )


def _windows():
    return Check(
        "Table 2, Train Var",
        "second half of training",
        "75 steps for GRPO and AH-GRPO, 90 for SA-AH-GRPO",
        "note",
        "The runs differ in length, so also in the cosine schedule: a longer run spends more of its window at a low "
        "learning rate. At the common step 150, 1.5B reads "
        f"{CHECKPOINTS[SMALL, 'sa-ah-grpo', 0.5][4]:.3f}, {CHECKPOINTS[SMALL, 'grpo', 0.0][4]:.3f} and "
        f"{CHECKPOINTS[SMALL, 'ah-grpo', 0.5][4]:.3f} (SA-AH, GRPO, AH).",
    )


def _base():
    lines = []
    for scale in (LARGE, SMALL):
        count, raw = BASE[scale] * PROBLEMS, RAW_BASE[scale] * PROBLEMS
        lines.append(
            Check(
                f"Section 4.1, {NAMES[scale]} base",
                f"{BASE[scale]} of {PROBLEMS}",
                f"{count:g} correct answers; raw {raw:g}",
                grade(abs(count - round(count)) < 1e-6),
                "A Pass@1 over 500 problems is a multiple of 0.002. The base was measured at "
                f"{RAW_BASE[scale]} and lowered by 0.015 by hand; the trained models were not.",
            )
        )
    final = SUMMARY[LARGE, "sa-ah-grpo"][0]
    lines.append(
        Check(
            "Table 2, 3B SA-AH-GRPO",
            f"final {final}, base {BASE[LARGE]}",
            f"raw base {RAW_BASE[LARGE]}: gain {float(final) - RAW_BASE[LARGE]:+.3f}",
            grade(float(final) > RAW_BASE[LARGE]),
            "Against the base as measured, the 3B model ends where it began.",
        )
    )
    return lines


def _partial():
    count = len(CHECKPOINTS[SMALL, "ah-grpo", 0.25])
    return Check(
        "Table 5 and Section 7, α = 0.25",
        "partial run, steps 30 to 60 only",
        f"{count} checkpoints are printed, to step {30 * count}",
        grade(count == 2),
        "Either the note or three of the values belong to another version of the run.",
    )


def _luck():
    rates = CHECKPOINTS[SMALL, "grpo", 0.0]
    mean = sum(rates) / len(rates)
    chance = expected_peak(mean, PROBLEMS, len(rates)) - mean
    return Check(
        "Tables 3 to 5, peaks",
        f"1.5B GRPO: peak {max(rates):.3f}, mean of its checkpoints {mean:.3f}",
        f"{len(rates)} independent evaluations of a model that stands still at {mean:.3f} peak {chance:.3f} above it "
        "on average",
        "note",
        "A peak over checkpoints on the test problems is partly luck, more so for a run with more checkpoints.",
    )
