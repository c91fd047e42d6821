"""Statements of the paper's text about its results held against its own tables. Needs no torch."""

from itertools import pairwise

from sa_ah_lib.analysis.stats import half_width
from sa_ah_lib.paper.audit_tables import METHODS, Check, grade
from sa_ah_lib.paper.printed import BASE, CHECKPOINTS, DIAGNOSTICS, LARGE, PROBLEMS, RAW_BASE, SMALL, STEPS, SUMMARY


def checks() -> list[Check]:
    """Every check of the text, in the order of the sections that make the statement."""
    return [*_ratios(), _gain(), _contribution(), *_accuracy(), *_divergence(), *_alphas(), _upward()]


def _final(scale, method):
    return float(SUMMARY[scale, method][0])


def _variance(scale, method):
    return float(SUMMARY[scale, method][4])


def _ratios():
    lines = []
    for other, printed in (("grpo", "3.6"), ("ah-grpo", "2.6")):
        ratio = _variance(LARGE, other) / _variance(LARGE, "sa-ah-grpo")
        lines.append(
            Check(
                "Abstract and Section 5.1",
                f"{printed}× lower training variance than {other} on 3B",
                f"{ratio:.2f}×",
                grade(f"{ratio:.1f}" == printed),
                "The arithmetic holds for the numbers as printed; see Table 2 above for "
                "the four that are printed twice.",
            )
        )
    return lines


def _gain():
    gain, raw = (100 * (_final(SMALL, "sa-ah-grpo") - base[SMALL]) for base in (BASE, RAW_BASE))
    return Check(
        "Abstract and Section 5.1",
        "+4.9 points over zero-shot on 1.5B",
        f"+{gain:.1f}; over the raw base +{raw:.1f}",
        grade(f"{gain:.1f}" == "4.9", f"{raw:.1f}" == "4.9"),
        "The arithmetic holds against the base lowered by hand; a third of the gain is that adjustment.",
    )


def _contribution():
    finals = {scale: [SUMMARY[scale, m][0] for m in METHODS] for scale in (LARGE, SMALL)}
    spread = {scale: [SUMMARY[scale, m][4] for m in METHODS] for scale in (LARGE, SMALL)}
    holds = all(float(f[2]) > max(map(float, f[:2])) for f in finals.values()) and all(
        float(v[2]) < min(map(float, v[:2])) for v in spread.values()
    )
    return Check(
        "Section 1, contributions",
        "higher final Pass@1 and lower training variance than both GRPO and AH-GRPO",
        f"finals (GRPO, AH, SA) 3B {', '.join(finals[LARGE])}, 1.5B {', '.join(finals[SMALL])}; variances "
        f"3B {', '.join(spread[LARGE])}, 1.5B {', '.join(spread[SMALL])}",
        grade(holds),
        "On 3B the final is not higher; on 1.5B the variance is not lower. Each half holds on one model.",
    )


def _upward():
    rates = CHECKPOINTS[SMALL, "sa-ah-grpo", 0.5]
    down = [f"{step}" for step, (a, b) in zip(STEPS[1:], pairwise(rates), strict=True) if b < a]
    return Check(
        "Figure 3",
        "a consistent upward trend of SA-AH-GRPO on 1.5B",
        f"{', '.join(f'{rate:.3f}' for rate in rates)}: {len(down)} of {len(rates) - 1} moves are down (to steps "
        f"{', '.join(down)})",
        grade(rates[-1] > rates[0], not down),
        "It rises from first to last; every single move is within the ±0.042 of one evaluation.",
    )


def _alphas():
    sweep = {a: CHECKPOINTS[SMALL, "ah-grpo" if a else "grpo", a] for a in (-0.25, 0.0, 0.1, 0.25, 0.5)}
    peaks, finals = ({a: f(rates) for a, rates in sweep.items()} for f in (max, lambda r: r[-1]))
    positive = (0.1, 0.25, 0.5)
    late = STEPS[2:5]
    below, untrained = (
        [step for step, rate, base in zip(STEPS[:5], sweep[-0.25], bases, strict=True) if rate < base and step in late]
        for bases in (sweep[0.0], [BASE[SMALL]] * 5)
    )
    not_above = [
        f"{rate:.3f} (α = {a:.2f}) against {other:.3f} at step {step}"
        for a in positive
        for step, rate, other in zip(STEPS, sweep[a], sweep[-0.25], strict=False)
        if rate <= other
    ]

    def listed(values):
        return ", ".join(f"{values[a]:.3f}" for a in positive)

    return [
        Check(
            "Section 5.2 and Figure 4",
            "α = 0.10 achieves the highest peak (0.670)",
            f"peaks of α = 0.10, 0.25, 0.50: {listed(peaks)}",
            grade(peaks[0.1] == max(peaks.values())),
            "0.25 and 0.50 peak higher.",
        ),
        Check(
            "Section 5.2",
            "α = 0.50 has a slightly lower peak but better final accuracy than α = 0.10",
            f"peaks {peaks[0.5]:.3f} and {peaks[0.1]:.3f}, finals {finals[0.5]:.3f} and {finals[0.1]:.3f}",
            grade(peaks[0.5] < peaks[0.1], finals[0.5] > finals[0.1]),
            "The peak is higher, not lower; the final is better.",
        ),
        Check(
            "Section 5.2 and Conclusion",
            "positive α consistently outperforms α = −0.25",
            f"peaks {listed(peaks)} against {peaks[-0.25]:.3f}; finals {listed(finals)} against {finals[-0.25]:.3f}; "
            f"not above it: {', '.join(not_above) or 'no checkpoint'}",
            grade(
                min(peaks[a] for a in positive) > peaks[-0.25] and min(finals[a] for a in positive) > finals[-0.25],
                not not_above,
            ),
            "Peaks and finals have that order; the claims below say whether N = 500 can tell it from chance.",
        ),
        Check(
            "Conclusion",
            "positive entropy-discounting is beneficial",
            f"finals {listed(finals)}; GRPO (α = 0) {finals[0.0]:.3f}",
            grade(min(finals[a] for a in positive) > finals[0.0]),
            "Every positive α ends below GRPO; their peaks are 0.002 to 0.008 above GRPO's.",
        ),
        Check(
            "Section 5.2",
            "α = −0.25 degrades below the baseline in later training steps",
            f"below α = 0, the sweep's baseline (Section 4.5), at steps {', '.join(map(str, below))} of "
            f"{', '.join(map(str, late))}; below zero-shot {BASE[SMALL]} at {', '.join(map(str, untrained)) or 'none'}",
            grade(*(step in below for step in late)),
            "Against the raw zero-shot 0.652 every checkpoint of it is below, and so are those of most other runs at "
            "some step.",
        ),
    ]


def _accuracy():
    finals = [_final(LARGE, m) for m in METHODS]
    everything = [rate for (scale, *_), rates in CHECKPOINTS.items() if scale == LARGE for rate in rates]
    peaks = [float(SUMMARY[LARGE, m][2]) for m in METHODS]
    apart = max(abs(peaks[2] - peak) for peak in peaks)
    return [
        Check(
            "Section 5.1",
            "final Pass@1 of all methods within 0.844 to 0.862 on 3B",
            f"finals {_spread(finals)}; all checkpoints {_spread(everything)}",
            grade(min(finals) >= 0.844 and max(finals) <= 0.862, (min(finals), max(finals)) == (0.844, 0.862)),
            "0.862 is a peak; the finals lie within 0.002 of each other.",
        ),
        Check(
            "Section 5.1",
            "well above the zero-shot baseline of 0.831 on 3B",
            f"finals +{min(finals) - BASE[LARGE]:.3f} to "
            f"+{max(finals) - BASE[LARGE]:.3f}; over the raw base {min(finals) - RAW_BASE[LARGE]:+.3f} to "
            f"{max(finals) - RAW_BASE[LARGE]:+.3f}",
            grade(min(finals) - BASE[LARGE] > half_width(BASE[LARGE], PROBLEMS)),
            "All gains are inside one ±0.032 interval.",
        ),
        Check(
            "Abstract and Conclusion",
            "SA-AH-GRPO matches GRPO's and AH-GRPO's peak on 3B",
            f"peaks {peaks[2]:.3f}, {peaks[0]:.3f}, {peaks[1]:.3f}",
            grade(apart < 0.02),
            f"Within {apart:.3f} of either, inside the 0.02 that Section 7 says to read with caution.",
        ),
    ]


def _divergence():
    averages = [float(row[5]) for row in SUMMARY.values() if row[5]]
    above = [(row[0], row[3]) for rows in DIAGNOSTICS.values() for row in rows if row[3] >= 0.01]
    ratio = float(SUMMARY[LARGE, "sa-ah-grpo"][5]) / float(SUMMARY[LARGE, "ah-grpo"][5])
    return [
        Check(
            "Section 5.1",
            "mean KL below 0.010 for all methods",
            f"largest mean {max(averages):.5f}; single rows "
            + ", ".join(f"{kl:.5f} at step {step}" for step, kl in above),
            grade(max(averages) < 0.010),
            "True of run means; single logged steps go up to twice that.",
        ),
        Check(
            "Section 5.1",
            "slightly higher mean KL of SA-AH-GRPO than of AH-GRPO on 3B",
            f"{ratio:.2f} times",
            grade(ratio > 1, 1 < ratio < 1.25),
            "Half as much again; SA-AH-GRPO also ran 30 steps longer, and AH-GRPO's number is one of those printed "
            "twice.",
        ),
    ]


def _spread(values):
    return f"{min(values):.3f} to {max(values):.3f}"
