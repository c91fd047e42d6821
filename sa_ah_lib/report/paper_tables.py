"""The paper's Tables 1 to 7, from families of results.

Each function takes one source's families and gives a ``Table``; what the source lacks raises ``MissingData``.
"""

from collections.abc import Sequence

from sa_ah_lib.analysis import stats
from sa_ah_lib.analysis.results import Family, MissingData, mean_kl, variance
from sa_ah_lib.analysis.table import DASH, PLUS_MINUS, Table
from sa_ah_lib.config import METHOD_LABELS, RunConfig
from sa_ah_lib.paper.printed import BOLD, HYPERPARAMETERS, PARTIAL, PROBLEMS
from sa_ah_lib.upstream.metrics import METRICS


def hyperparameters(families: Sequence[Family]) -> Table:
    """Table 1; a measured family gets a column of its own values, marked * where they differ from the paper's."""
    own = {
        "Learning rate": lambda c: _power(c.learning_rate),
        "LR scheduler": lambda c: "cosine",
        "Warmup steps": lambda c: HYPERPARAMETERS["Warmup steps"],
        "Weight decay": lambda c: f"{c.weight_decay:g}",
        "Gradient clip": lambda c: f"{c.max_grad_norm:.1f}",
        "KL penalty β": lambda c: f"{c.beta:g}",
        "PPO clip ε": lambda c: f"{c.epsilon:g}",
        "Batch prompts per step": lambda c: str(c.prompts_per_step),
        "Completions per prompt G": lambda c: str(c.num_generations),
        "Gradient accumulation steps": lambda c: str(c.gradient_accumulation_steps),
        "Max completion tokens": lambda c: str(c.max_completion_tokens),
        "Entropy top-K": lambda c: "all (exact)" if c.entropy_top_k is None else str(c.entropy_top_k),
        "Reward threshold": lambda c: f"{c.reward_threshold:g}",
        "Training examples N_train": lambda c: str(c.train_examples),
        "Evaluation examples N_eval": lambda c: str(c.eval_examples),
    }
    measured = [f for f in families if f.source == "measured"]
    header = ["Hyperparameter", "paper", *(f.name for f in measured)]
    rows = []
    for name, printed in HYPERPARAMETERS.items():
        values = [own[name](f.results[0].config) for f in measured]
        rows.append([name, printed, *(v if v == printed else f"{v} *" for v in values)])
    notes = ("* differs from the paper.",) if measured else ()
    return Table("table-1", caption(1, "Hyperparameters", families), header, rows, notes)


def summary(families: Sequence[Family]) -> Table:
    """Table 2: final and peak Pass@1 with the paper's ± (Section 4.4), training variance, mean KL."""
    header = ["Model", "Method", "α", "Steps", "Pass@1 final", "Pass@1 peak", "Train Var", "Mean KL"]
    rows, bold = [], []
    for family in families:
        model = family.model + ("" if family.problems == PROBLEMS else f", N = {family.problems}")
        if family.base is not None:
            base = family.results[0].printed.get("base") or _with_half_width(family.base, family.problems)
            rows.append([model, METHOD_LABELS["zero-shot"], DASH, DASH, base, DASH, DASH, DASH])
        for method, result in family.methods.items():
            rates = [_final_or_peak(result, name) for name in ("final", "peak")]
            numbers = _number(variance(result), ".4f"), _number(mean_kl(result), ".5f")
            alpha, steps = f"{result.config.alpha:.1f}", str(result.config.steps)
            if family.source == "paper":
                printed_bold = enumerate(("final", "peak"), start=header.index("Pass@1 final"))
                bold += [(len(rows), i) for i, which in printed_bold if (family.scale, method, which) in BOLD]
            rows.append([model, METHOD_LABELS[method], alpha, steps, *rates, *numbers])
    if not rows:
        raise MissingData("no run at all")
    notes = [
        "± is 1.96 sqrt(p (1 - p) / N). Train Var: variance of each step's mean reward, second half of the steps. "
        "Higher Pass@1 and lower Train Var are better."
    ]
    if bold:
        notes.append("Bold as printed. The base rows are printed 1.5 points below the evaluation (Section 4.1).")
    return Table("table-2", caption(2, "Summary", families), header, rows, tuple(notes), tuple(bold))


def checkpoints(family: Family) -> Table:
    """Tables 3 (large model) and 4 (small): Pass@1 at each evaluated checkpoint of the three methods."""
    steps = sorted({step for result in family.methods.values() for step in result.pass_at_1})
    if not steps:
        raise MissingData(f"no evaluated checkpoint of {family.model}")
    rows = [
        [f"{METHOD_LABELS[m]} (α={r.config.alpha:.1f})", *(_rate(r.pass_at_1.get(step)) for step in steps)]
        for m, r in family.methods.items()
    ]
    number = 3 if family.is_large else 4
    title = f"Pass@1 by checkpoint step ({family.problems} problems, greedy)"
    notes = (f"{DASH}: the run did not extend to that step.",) if any(DASH in row for row in rows) else ()
    return Table(f"table-{number}", caption(number, title, [family]), ["Method", *map(str, steps)], rows, notes)


def alphas(family: Family) -> Table:
    """Table 5: Pass@1 of AH-GRPO by alpha, SA-AH-GRPO below."""
    steps = sorted({step for result in family.sweep.values() for step in result.pass_at_1})
    rows = []
    for alpha, result in family.sweep.items():
        partial = result.source == "paper" and alpha == PARTIAL
        name = f"{alpha:.2f}".replace("-", "−") + (" (GRPO)" if not alpha else "") + "†" * partial
        rows.append([name, *_scores(result, steps)])
    dagger = "† A partial run, steps 30 to 60, says the paper, whose peak may not be its highest; it prints five steps."
    notes = [dagger] if any("†" in row[0] for row in rows) else []
    notes += [f"α = {r.config.alpha:.2f} is left out: {r.config.steps} steps." for r in family.other_lengths]
    result = family.methods.get("sa-ah-grpo")
    if result and result.pass_at_1:
        rows.append([f"SA-AH-GRPO {result.config.alpha:.2f}", *_scores(result, steps)])
        notes.append(f"SA-AH-GRPO's peak and final are over its {result.config.steps} steps.")
    header = ["α", *map(str, steps), "Peak", "Final"]
    return Table("table-5", caption(5, "AH-GRPO by α, Pass@1 by step", [family]), header, rows, tuple(notes))


def diagnostics(family: Family) -> Table:
    """Tables 6 (large model) and 7 (small): SA-AH-GRPO's diagnostics at the first logged step and every checkpoint."""
    result = family.method("sa-ah-grpo")
    if not result.train:
        raise MissingData(f"the training log of SA-AH-GRPO on {family.model}")
    wanted = {result.train[0]["step"], *result.pass_at_1}
    columns = [METRICS[key] for key in (
        "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative", "sa_ah/negative_fraction",
        "completions/mean_length",
    )]  # fmt: skip
    rows = []
    for row in [row for row in result.train if row["step"] in wanted]:
        reward = PLUS_MINUS.join(METRICS[key].written(row.get(key)) for key in ("reward", "reward_std"))
        values = [metric.written(row.get(metric.key)) for metric in columns]
        rows.append([str(row["step"]), _rate(result.pass_at_1.get(row["step"])), reward, *values])
    number = 6 if family.is_large else 7
    header = ["Step", "Pass@1", METRICS["reward"].column, *(metric.column for metric in columns)]
    notes = (
        "r̄: mean reward of the step's rollouts ± their standard deviation. KL: mean over tokens, in nats. H̄: mean "
        "normalised entropy. w̄: mean weight of all tokens; w̄₋: of the tokens of rollouts with a negative advantage, "
        "0.000 where there were none. f₋: the share of such rollouts. len: mean completion length in tokens.",
    )
    return Table(f"table-{number}", caption(number, "SA-AH-GRPO diagnostics", [family]), header, rows, notes)


def caption(number: int | str, title: str, families: Sequence[Family]) -> str:
    """Number and title of a table, and what each of ``families`` is."""
    told = list(dict.fromkeys(family.caption for family in families))
    # One source a table: said once.
    return f"Table {number}: {title}. " + "; ".join([told[0], *(text.split(": ", 1)[1] for text in told[1:])])


def _scores(result, steps):
    return [*(_rate(result.pass_at_1.get(step)) for step in steps), _rate(result.peak), _rate(result.final)]


def _final_or_peak(result, name):
    if not result.pass_at_1:
        return DASH
    correct, total = getattr(result, name)
    return result.printed.get(name) or _with_half_width(correct / total, total)


def _with_half_width(rate, total):
    return f"{rate:.3f}{PLUS_MINUS}{stats.half_width(rate, total):.3f}"


def _rate(counts):
    return DASH if counts is None else f"{counts[0] / counts[1]:.3f}"


def _number(value, form):
    return DASH if value is None else format(value, form)


def _power(value):
    if value == RunConfig.learning_rate:
        return HYPERPARAMETERS["Learning rate"]
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}×10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
