"""Statements of the paper's text about training (Sections 5.3 and 6) held against its own logs. Needs no torch."""

from sa_ah_lib.paper.audit_tables import Check, grade
from sa_ah_lib.paper.printed import DIAGNOSTICS, LARGE, SMALL


def checks() -> list[Check]:
    """Every check of the text on training, in its order."""
    return [*_trajectory(), _curriculum()]


def _trajectory():
    rows = DIAGNOSTICS[LARGE]
    first, last = rows[0], rows[-1]
    late = {row[0]: row[2] for row in rows if row[0] >= 90}
    weights = {scale: min(row[5] for row in DIAGNOSTICS[scale]) for scale in (LARGE, SMALL)}
    negative = min(row[6] for table in DIAGNOSTICS.values() for row in table if row[7])
    idle = [row[2] for row in rows if row[7] == 0]
    ends = (
        (first[1], 6.82, 0.0051), (first[2], 0.81, 0.0051), (last[1], 7.09, 0.0051), (last[2], 0.24, 0.0051),
        (first[8], 243, 0), (last[8], 171, 0), (first[4], 0.029, 0.00051), (last[4], 0.009, 0.00051),
    )  # fmt: skip
    largest = max(row[7] for table in DIAGNOSTICS.values() for row in table)
    return [
        Check(
            "Section 5.3",
            "reward 6.82 ± 0.81 to 7.09 ± 0.24, length 243 to 171, entropy 0.029 to 0.009 on 3B",
            f"{first[1]:.3f} ± {first[2]:.3f} to {last[1]:.3f} ± {last[2]:.3f}, {first[8]} to {last[8]}, {first[4]} "
            f"to {last[4]}",
            grade(all(abs(a - b) <= digit for a, b, digit in ends)),
            "The ends agree with Table 6. Between them length rises to 250 (step 90), and the reward is not monotone.",
        ),
        Check(
            "Section 5.3",
            "std below 0.25 throughout later training",
            ", ".join(f"{s:.3f} at {n}" for n, s in late.items()),
            grade(max(late.values()) < 0.25),
            "Step 120 is twice that.",
        ),
        Check(
            "Section 5.3",
            "f₋ fluctuates between 0 and 1; at 1 the full AH discount applies",
            f"Eq. 1's advantages sum to 0 in a group, so at most 3 of 4 are negative; largest printed {largest:g}",
            grade(largest == 1),
            "f₋ = 1 cannot happen, so SA-AH-GRPO never becomes AH-GRPO.",
        ),
        Check(
            "Section 5.3",
            "f₋ = 0: all rollouts are above average",
            f"beside f₋ = 0, Table 6 prints std {', '.join(f'{s:.3f}' for s in idle)}",
            grade(not any(idle)),
            "Not all can be above their average. f₋ = 0 means equal rewards within the group (or a reward threshold "
            "that "
            "silences it), so the ± is of other rollouts than f₋.",
        ),
        Check(
            "Section 5.3",
            "w̄ stays above 0.5, so gradients on negative rollouts are not suppressed",
            f"smallest w̄ {weights[LARGE]:.3f} (3B), {weights[SMALL]:.3f} (1.5B); smallest w̄₋ {negative:.3f}",
            grade(min(weights.values()) > 0.5, negative > 0.5),
            "w̄ counts the weights of 1 on the other rollouts; on negative ones the mean falls to a seventh.",
        ),
    ]


def _curriculum():
    first, last, before = (DIAGNOSTICS[SMALL][i] for i in (0, -1, -2))
    negative = {scale: [row[6] for row in DIAGNOSTICS[scale] if row[7]] for scale in (LARGE, SMALL)}
    return Check(
        "Sections 5.3 and 6",
        "the discount anneals as entropy falls",
        f"3B w̄₋ {negative[LARGE][0]} to {negative[LARGE][-1]}; 1.5B w̄ {first[5]} to {last[5]}, w̄₋ {first[6]} to "
        f"{last[6]} with {before[6]} at step {before[0]}",
        grade(*(weights == sorted(weights) for weights in negative.values())),
        "Visible on 3B. On 1.5B the mean weight ends where it began. GRPO's entropies are not printed, so nothing "
        "shows that "
        "the entropy falls less, or more, because of the discount.",
    )
