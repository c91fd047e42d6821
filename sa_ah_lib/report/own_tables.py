"""Our own Tables S1 to S3: what the paper's numbers, or ours, can decide. One function a table, from one family.

What the source lacks raises ``MissingData``. Needs no torch.
"""

from sa_ah_lib.analysis import stats
from sa_ah_lib.analysis.results import Family, MissingData
from sa_ah_lib.analysis.table import DASH, Table
from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.paper.judges import compare
from sa_ah_lib.paper.printed import RAW_BASE
from sa_ah_lib.report.paper_tables import caption


def comparisons(family: Family) -> Table:
    """Table S1: every pair of methods and the base, at the final checkpoint and at the last common one.

    Paired (McNemar's test, Bonett and Price's interval) where per-problem answers are known, else the two-proportion
    z-test.
    """
    pairs = _pairs(family)
    if not pairs:
        raise MissingData(f"two evaluated methods of {family.model}")
    rows = []
    for first, second, step, gap, test in pairs:
        interval = f"[{gap.low:+.3f}, {gap.high:+.3f}]"
        p_value = "<0.001" if gap.p_value < 0.0005 else f"{gap.p_value:.3f}"
        rows.append([f"{first} − {second}", step, f"{gap.estimate:+.3f}", interval, p_value, test])
    floor = min(r.final[0] / r.final[1] for r in family.methods.values() if r.pass_at_1)
    detectable = stats.minimal_detectable_difference(floor, family.problems)
    notes = [
        f"Two independent evaluations of N = {family.problems} at Pass@1 {floor:.3f} tell differences of "
        f"{detectable:.3f} apart with 80% power. p-values are not corrected for the number of rows ({len(rows)}).",
    ]
    if family.source == "paper":
        notes.append(f"The base is {RAW_BASE[family.scale]}, as evaluated; Table 2 has it 0.015 lower (Section 4.1).")
    header = ["difference in Pass@1", "step", "estimate", "95% interval", "p", "test"]
    return Table("table-s1", caption("S1", "Differences in Pass@1", [family]), header, rows, tuple(notes))


def peaks(family: Family) -> Table:
    """Table S2: each peak over checkpoints beside what is left of it without the luck of the best of several."""
    rows = []
    for method, result in family.methods.items():
        if not result.pass_at_1:
            continue
        (correct, total), looks = result.peak, len(result.pass_at_1)
        mean = sum(k / n for k, n in result.pass_at_1.values()) / looks
        chance = stats.expected_peak(mean, total, looks) - mean
        corrected = DASH
        answers = [result.answers.get(step, ()) for step in result.pass_at_1]
        if {len(right) for right in answers} == {total}:
            corrected = f"{stats.corrected_peak(answers)[1]:.3f}"
        wilson, wald = (
            "[{:.3f}, {:.3f}]".format(*f(correct, total)) for f in (stats.wilson_interval, stats.wald_interval)
        )
        row = [METHOD_LABELS[method], str(looks), f"{correct / total:.3f}", wald, wilson, f"{mean:.3f}"]
        rows.append([*row, f"{chance:.3f}", corrected])
    if not rows:
        raise MissingData(f"an evaluated run of {family.model}")
    notes = (
        "By chance: how far the best of so many independent evaluations lies above a Pass@1 that stands still at the "
        "mean; an upper bound, as checkpoints share problems. Corrected: the peak less its optimism when problems are "
        "resampled, which needs the answers one by one.",
    )
    header = ["Method", "checkpoints", "peak", "95% Wald", "95% Wilson", "mean", "by chance", "corrected peak"]
    return Table("table-s2", caption("S2", "Peaks over checkpoints", [family]), header, rows, notes)


def variances(family: Family) -> Table:
    """Table S3: the training variance with a block-bootstrap interval, and the parts it is made of."""
    rows = []
    for method, result in family.methods.items():
        rewards = result.curve("reward")[1]
        if result.source == "paper" or len(rewards) < 4:
            continue
        total = stats.training_variance(rewards)
        between, within = (result.curve(f"sa_ah/reward_{part}_variance")[1] for part in ("between", "within"))
        split = [DASH] * 4
        if len(between) == len(rewards):
            c = result.config
            parts = stats.variance_split(rewards, between, within, c.prompts_per_step, c.num_generations)
            split = [f"{part:.4f}" for part in (parts.trend, parts.prompts, parts.rollouts, parts.rest)]
        interval = f"[{total.low:.4f}, {total.high:.4f}]"
        rows.append([METHOD_LABELS[method], f"{total.estimate:.4f}", interval, *split])
    if not rows:
        raise MissingData(f"step by step rewards of {family.model}, which intervals of the training variance need")
    header = ["Method", "Train Var", "95% interval", "trend", "draw of prompts", "draw of rollouts", "rest"]
    notes = (
        "The parts add up to Train Var; the rest may be negative by chance. The two draws are the variance that a "
        "policy which stands still shows, because each step samples other prompts and rollouts.",
    )
    return Table("table-s3", caption("S3", "Training variance and its parts", [family]), header, rows, notes)


def _pairs(family):
    """(first, second, step, Difference, test) of every two methods at their last common step, and against the base."""
    members = {m: r for m, r in family.methods.items() if r.pass_at_1}
    found = []
    for i, (first, a) in enumerate(members.items()):
        for second, b in list(members.items())[:i]:
            common = set(a.pass_at_1) & set(b.pass_at_1)
            if common:
                step = max(common)
                found.append((METHOD_LABELS[first], METHOD_LABELS[second], str(step), *compare(a, step, b, step)))
            if a.last != b.last:
                labels = METHOD_LABELS[first], METHOD_LABELS[second]
                found.append((*labels, f"{a.last}, {b.last}", *compare(a, a.last, b, b.last)))
        if a.base is not None:
            found.append((METHOD_LABELS[first], METHOD_LABELS["zero-shot"], str(a.last), *compare(a, a.last, a, 0)))
    return found
