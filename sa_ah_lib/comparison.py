"""What to run for a comparison over seeds, and which finished runs belong together. Needs no torch."""

from dataclasses import dataclass, fields

from sa_ah_lib.config import METHOD_LABELS, METHODS, SCALES, RunConfig


@dataclass(frozen=True)
class Arm:
    """Runs that differ in seed and scale alone: {(scale, seed): run or ``Result``}, under one label."""

    label: str
    config: RunConfig
    runs: dict


def expand(base, methods, seeds, vary=None, varied="sa-ah-grpo", alpha=None):
    """The configurations of a comparison: every method at ``base``'s length, every seed, seed by seed.

    Args:
        base: a trained method's ``RunConfig``; all else is kept from it.
        alpha: of every method that has one; None keeps each method's own.
        vary: {field: values}; each value is one more arm of the method ``varied``, one field changed at a time.
    """
    strength = lambda method: alpha if METHODS.get(method, {}).get("alpha") else None  # noqa: E731
    arms = [base.sibling(method, strength(method)).replace(steps=base.steps) for method in methods]
    anchor = base.sibling(varied, strength(varied)).replace(steps=base.steps)
    arms += [anchor.replace(**{field: value}) for field, values in (vary or {}).items() for value in values]
    return [arm.replace(seed=seed) for seed in dict.fromkeys(seeds) for arm in dict.fromkeys(arms)]


def arms(runs):
    """Sort trained runs into arms, in the order of ``METHODS``; labels say how an arm differs from its method's first.

    Raises:
        ValueError: no trained run among them.
    """
    found = {}
    for run in runs:
        if run.config.steps:
            key = run.config.replace(seed=0, scale=next(iter(SCALES)), model="")
            found.setdefault(key, {})[run.config.scale, run.config.seed] = run
    if not found:
        raise ValueError("expected finished runs of at least one trained method. Got none; run them first.")
    first = {}
    for config in found:
        first.setdefault(config.method, config)
    order = sorted(found, key=lambda config: list(METHODS).index(config.method))
    return [Arm(_label(config, first[config.method]), config, found[config]) for config in order]


def by_family(runs):
    """{name: arms of two seeds or more} of runs that differ in method, rule and seed alone, GRPO in each.

    The name is scale, steps and alpha, with a hash where these are not enough. SA-AH-GRPO's own 180 steps are not
    compared with GRPO's 150.
    """
    families = {}
    for run in runs:
        if run.config.steps:
            grpo = run.config.replace(method="grpo", scope="none", alpha=0.0, rule="cumulative", seed=0)
            families.setdefault(grpo, []).append(run)
    named = {}
    for grpo, members in families.items():
        for alpha in sorted({run.config.alpha for run in members} - {0.0}):
            kept = [arm for arm in arms([r for r in members if r.config.alpha in (0.0, alpha)]) if len(arm.runs) > 1]
            if len(kept) > 1:
                name = f"{grpo.scale}-{grpo.steps}steps-a{alpha:g}"
                named[name if name not in named else f"{name}-{grpo.run_id[-8:]}"] = kept
    return named


def arm_of(arms, method):
    """The first arm of a method, or None."""
    return next((arm for arm in arms if arm.config.method == method), None)


def _label(config, first):
    usual = first.replace(alpha=METHODS[first.method]["alpha"])
    names = [f.name for f in fields(config) if getattr(config, f.name) != getattr(usual, f.name)]
    changes = [f"{'α' if name == 'alpha' else name} = {_text(getattr(config, name))}" for name in names]
    return ", ".join([METHOD_LABELS[config.method], *changes])


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
