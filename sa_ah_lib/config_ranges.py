"""The type and range of every field of ``config.RunConfig``, each with what was expected and what came."""

import difflib
import math

from sa_ah_lib import rulebook


def own_parameters(rule, given):
    """The parameters of a rule that differ from its defaults, as sorted pairs."""
    check_choice("rule", rule, rulebook.RECORDS)
    try:
        given = dict(given)
    except (TypeError, ValueError):
        raise ValueError(f"rule_parameters must be a dictionary of numbers by name. Got {given!r}.") from None
    record = rulebook.get(rule)
    for name in {"alpha", "scope"} & given.keys() if record.takes_scope else ():
        raise ValueError(f"{name} of rule {rule!r} is a field of its own. Got it in rule_parameters; set {name}.")
    resolved = record.resolve(given)
    return tuple(sorted((name, value) for name, value in resolved.items() if value != record.defaults[name]))


def check_choice(name, value, choices):
    """Raise ValueError with the choices where ``value`` is none of them; it names the nearest one."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {sorted(choices)}. Got {value!r}.{nearest(value, choices)}")


def nearest(name, choices):
    """The question that a mistyped name deserves, or nothing where no name is near."""
    near = difflib.get_close_matches(str(name).lower(), choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def check_type(field, value):
    """Raise ValueError where a value is not of a dataclass field's type; a bool is no number."""
    wanted = {int: int, float: (int, float), str: str, bool: bool}.get(field.type, (int, type(None)))
    if not isinstance(value, wanted) or (isinstance(value, bool) and field.type is not bool):
        name = getattr(field.type, "__name__", field.type)
        raise ValueError(f"{field.name} must be {name}. Got {value!r}.")


def check_ranges(c):
    """Raise ValueError for the first field of a configuration out of its range, or out of step with another."""
    check_choice("scope", c.scope, ("none", "all", "negative", "positive"))
    check_choice("denominator", c.denominator, ("group", "batch", "sequence", "tokens"))
    check_choice("system_prompt", c.system_prompt, ("tags", "none"))
    for name in (
        "train_examples", "eval_examples", "prompts_per_step", "gradient_accumulation_steps", "lora_rank",
        "lora_alpha", "max_prompt_tokens", "max_completion_tokens", "eval_every", "save_every", "eval_batch_size",
    ):  # fmt: skip
        if getattr(c, name) < 1:
            raise ValueError(f"{name} must be at least 1. Got {getattr(c, name)}.")
    for name in ("seed", "data_seed", "warm_start"):
        if not 0 <= getattr(c, name) < 2**32:
            raise ValueError(f"{name} must be in [0, 2**32). Got {getattr(c, name)}.")
    if (c.steps == 0) != (c.method == "zero-shot") or c.steps < 0:
        raise ValueError(f"steps must be at least 1, or 0 for zero-shot. Got {c.steps} for {c.method}.")
    for name in ("alpha", "learning_rate", "weight_decay", "max_grad_norm", "beta", "epsilon", "temperature"):
        if not math.isfinite(getattr(c, name)) or (name != "alpha" and getattr(c, name) < 0):
            limits = "finite" if name == "alpha" else "finite and not negative"
            raise ValueError(f"{name} must be {limits}. Got {getattr(c, name)}.")
    if c.scope == "none" and c.alpha:
        raise ValueError(f"alpha must be 0 where scope is 'none', which would ignore it. Got {c.alpha}.")
    takes_scope = rulebook.get(c.rule).takes_scope
    if takes_scope and c.rule != "cumulative" and (c.scope == "none" or c.alpha < 0):
        raise ValueError(
            "a control rule needs a scope other than 'none' and an alpha of at least 0. "
            f"Got {c.rule!r} with {c.scope!r} and {c.alpha}."
        )
    if not takes_scope and c.scope != "none":
        raise ValueError(
            f"rule {c.rule!r} does not know scope and alpha: use method 'grpo' (scope 'none', alpha 0), and "
            f"rule_parameters for its own. Got scope {c.scope!r}."
        )
    if c.temperature == 0:
        raise ValueError("temperature must be above 0: rollouts are sampled. Got 0.")
    if not 0 <= c.lora_dropout < 1:
        raise ValueError(f"lora_dropout must be in [0, 1). Got {c.lora_dropout}.")
    if not 0 <= c.reward_threshold < math.inf:
        raise ValueError(f"reward_threshold must be at least 0 and finite. Got {c.reward_threshold}.")
    if c.entropy_top_k is not None and c.entropy_top_k < 1:
        raise ValueError(f"entropy_top_k must be at least 1, or None for the exact entropy. Got {c.entropy_top_k}.")
    if c.num_generations < 2:
        raise ValueError(f"num_generations must be at least 2: advantages compare rollouts. Got {c.num_generations}.")
    if c.prompts_per_step % c.gradient_accumulation_steps:
        raise ValueError(
            "prompts_per_step must be a multiple of gradient_accumulation_steps, so that micro-batches hold whole "
            f"groups. Got {c.prompts_per_step} and {c.gradient_accumulation_steps}."
        )
