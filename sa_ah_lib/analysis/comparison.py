"""Which finished runs belong together: arms, families, labels and captions. Needs no torch."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace

from sa_ah_lib import rulebook
from sa_ah_lib.config import METHOD_FIELDS, METHOD_LABELS, METHODS, SCALES, RunConfig, preset
from sa_ah_lib.train.run import Run


@dataclass(frozen=True)
class Arm:
    """Runs that differ in seed, warm start and scale alone: {(scale, warm start, seed): run}, under one label."""

    label: str
    config: RunConfig
    runs: dict[tuple[str, int, int], Run]

    def on(self, keys: Collection[tuple[str, int, int]]) -> "Arm":
        """The same arm with the runs of these keys alone."""
        return replace(self, runs={key: run for key, run in self.runs.items() if key in keys})


def arms(runs: Iterable[Run]) -> list[Arm]:
    """Sort trained runs into arms, in the order of ``METHODS`` and a method's own rule first, each under a label.

    A label says how an arm differs from its method's first; an alpha is named where it is not the paper's, or where
    its method has several.

    Raises:
        ValueError: no trained run among them.
    """
    found = {}
    for run in runs:
        if run.config.steps:
            key = run.config.replace(seed=0, warm_start=0, scale=next(iter(SCALES)), model="")
            found.setdefault(key, {})[run.config.scale, run.config.warm_start, run.config.seed] = run
    if not found:
        raise ValueError("expected finished runs of at least one trained method. Got none; run them first.")
    order = sorted(found, key=lambda config: (list(METHODS).index(config.method), not config.has_own_rule))
    first, alphas = {}, {}
    for config in order:
        first.setdefault(config.method, config)
        alphas.setdefault(config.method, set()).add(config.alpha)
    return [
        Arm(_label(config, first[config.method], len(alphas[config.method]) > 1), config, found[config])
        for config in order
    ]


def on_shared_pairs(arms: Sequence[Arm]) -> list[Arm]:
    """Arms with the runs whose pairs all of them have; those with less than half of the first one's are left out."""
    own = arms[0].runs.keys() if arms else set()
    whole = [arm for arm in arms if 2 * len(arm.runs.keys() & own) >= len(own) > 0]
    shared = set(own).intersection(*(arm.runs for arm in whole))
    return [arm.on(shared) for arm in whole] if shared else []


def by_family(runs: Iterable[Run]) -> dict[str, list[Arm]]:
    """{name: arms of two seeds or more}: ``by_strength``, then the settings of SA-AH-GRPO beside GRPO's.

    GRPO and SA-AH-GRPO alone at one strength have no comparison of their own where they stand among the settings.
    """
    runs = [run for run in runs if run.config.steps]
    settings = _settings(runs)
    kept = {name: arms for name, arms in by_strength(runs).items() if not _among_settings(arms, settings)}
    return {**kept, **settings}


def by_strength(runs: Iterable[Run]) -> dict[str, list[Arm]]:
    """{name: arms of two seeds or more}: the methods at one strength, in one setting.

    Methods are compared where they differ in method, rule and seed alone. The name is scale, steps and alpha, with the
    fields that were changed where these are not enough. SA-AH-GRPO's own 180 steps are not compared with GRPO's 150.
    GRPO under another rule is none of the methods: it is a row of the board.
    """
    named: dict[str, list[Arm]] = {}
    methods = [run for run in runs if run.config.steps and (run.config.has_own_rule or run.config.method != "grpo")]
    groups = _grouped(methods, _as_grpo)
    for grpo in sorted(groups, key=lambda config: len(_changed(config))):
        members = groups[grpo]
        for alpha in sorted({run.config.alpha for run in members} - {0.0}):
            kept = _repeated([run for run in members if run.config.alpha in (0.0, alpha)])
            name = f"{grpo.scale}-{grpo.steps}steps-a{alpha:g}"
            if name in named:
                name = "-".join([name, *(f"{field}-{_text(getattr(grpo, field))}" for field in _changed(grpo))])
            if len(kept) > 1:
                named[name] = kept
    return named


def _among_settings(arms, settings):
    alone = {arm.config.method for arm in arms} <= {"grpo", "sa-ah-grpo"}
    # An arm's own configuration has no scale: its runs have.
    (name,) = {_settings_name(run.config) for arm in arms for run in arm.runs.values()}
    return alone and name in settings


def _settings(runs):
    """Comparisons of two or more settings of SA-AH-GRPO at one scale and length: the usual first, then by alpha."""
    pair = [run for run in runs if run.config.has_own_rule and run.config.method in ("grpo", "sa-ah-grpo")]
    pair.sort(key=lambda run: (_changed(run.config), run.config.alpha))
    found = {name: _repeated(members) for name, members in _grouped(pair, _settings_name).items()}
    return {name: arms for name, arms in found.items() if sum(arm.config.method == "sa-ah-grpo" for arm in arms) > 1}


def _settings_name(config):
    return f"{config.scale}-{config.steps}steps-settings"


def _changed(config):
    """Names of the fields in which a run differs from its preset, whatever its alpha, length, warm start and seed."""
    alike = {name: getattr(config, name) for name in ("seed", "warm_start", "steps")}
    return setting_apart(config, preset(config.scale, config.method, **alike))


def setting_apart(first: RunConfig, second: RunConfig) -> list[str]:
    """Names of the fields, but a method's own, in which two configurations differ."""
    return [name for name in _apart(first, second) if name not in METHOD_FIELDS]


def _apart(first, second):
    """Names of the fields in which two configurations differ."""
    return [f.name for f in fields(first) if getattr(first, f.name) != getattr(second, f.name)]


def _as_grpo(config):
    return config.replace(method="grpo", scope="none", alpha=0.0, rule="cumulative", seed=0, warm_start=0)


def _grouped(runs, key):
    groups = {}
    for run in runs:
        groups.setdefault(key(run.config), []).append(run)
    return groups


def _repeated(runs):
    """The arms of two seeds or more."""
    return [arm for arm in arms(runs) if len(arm.runs) > 1] if runs else []


def reference_of(arm: Arm, arms: Iterable[Arm], method: str = "grpo") -> Arm | None:
    """The arm of ``method`` whose setting is nearest to an arm's, or None: what a change of both is judged against.

    A temperature, say, changes GRPO too; a weight's alpha does not. GRPO under a published rule is not plain GRPO.
    """
    own = [other for other in arms if _is(method, other)]
    return min(own, key=lambda other: len(setting_apart(arm.config, other.config)), default=None)


def before_training(arm: Arm, label: str = "before training") -> Arm:
    """The same runs with their answers of step 0 at every step; without runs that were not evaluated then."""
    runs = {key: _untrained(run) for key, run in arm.runs.items() if run.base is not None}
    return Arm(label, arm.config, runs)


def _untrained(run):
    answers = {step: run.answers[0] for step in run.answers} if 0 in run.answers else {}
    counts = {step: (round(run.base * total), total) for step, (_, total) in run.pass_at_1.items()}
    return replace(run, pass_at_1=counts, answers=answers)


def caption(arms: Iterable[Arm]) -> str:
    """Models, data, length, seeds, device and days of what was measured."""
    runs = [run for arm in arms for run in arm.runs.values()]
    starts = {run.config.warm_start for run in runs}
    told = f", warm start{'s' if len(starts) > 1 else ''} {_distinct(starts)}" if starts != {0} else ""
    parts = [
        _distinct(run.config.scale for run in runs),
        _distinct(run.problems for run in runs),
        f"{_distinct(run.config.steps for run in runs)} steps{told}",
        f"seeds {_distinct(run.config.seed for run in runs)}",
        _distinct(run.environment.get("device", "unknown device") for run in runs),
    ]
    days = sorted({run.environment.get("started", "unknown date").split("T")[0] for run in runs})
    return f"measured: {', '.join(parts)}, {' to '.join(days[:: max(1, len(days) - 1)])}"


def mixed_devices(arms: Iterable[Arm]) -> str:
    """A sentence where runs were made on several devices; empty where all were made on one."""
    devices = {run.environment.get("device", "unknown device") for arm in arms for run in arm.runs.values()}
    if len(devices) < 2:
        return ""
    return (
        f"Runs were made on {' and '.join(sorted(devices))}: one seed samples other rollouts on each, and precision "
        "may differ, so two runs of one seed are no pair across them, and a gain may be the device's."
    )


def _distinct(values):
    return ", ".join(sorted({str(value) for value in values}, key=lambda v: (len(v), v)))


def arm_of(arms: Iterable[Arm], method: str) -> Arm | None:
    """The first arm of a method under its own rule, or None."""
    return next((arm for arm in arms if _is(method, arm)), None)


def _is(method, arm):
    return arm.config.method == method and arm.config.has_own_rule


def _label(config, first, alpha_named):
    usual = first.replace(alpha=METHODS[first.method]["alpha"])
    names = _apart(config, usual)
    if alpha_named and "alpha" not in names:
        names.insert(0, "alpha")
    # As the board's rows are called.
    by_rule = config.method == "ah-grpo" and "rule" in names
    known = rulebook.RECORDS.get(config.rule)
    label = f"{known.label if known else config.rule}, AH" if by_rule else METHOD_LABELS[config.method]
    changes = [_change(config, first, name) for name in names if not (by_rule and name == "rule")]
    return ", ".join([label, *changes])


def _change(config, first, name):
    if name == "learning_rate":
        return f"{config.learning_rate / first.learning_rate:g} × step"
    if name == "denominator":
        return f"by {config.denominator}"
    return f"{'α' if name == 'alpha' else name} = {_text(getattr(config, name))}"


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
