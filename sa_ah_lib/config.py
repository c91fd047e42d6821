"""One run as one frozen dataclass: its defaults are the paper's Table 1, its presets the scales and methods."""

import dataclasses
import difflib
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

RULES = ("cumulative", "position", "shuffled", "scalar", "local", "inverse", "top_entropy")
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

CONTROLS = {
    "control-position": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "position"},
    "control-shuffled": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "shuffled"},
    "control-scalar": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "scalar"},
    "control-mirror": {"scope": "positive", "alpha": 0.5, "steps": 180},
    "control-local": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "local"},
    "control-inverse": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "inverse"},
    "control-top-entropy": {"scope": "negative", "alpha": 0.5, "steps": 180, "rule": "top_entropy"},
}
"""SA-AH-GRPO with one part of its rule taken away, see ``controls``; the mirror discounts the successes instead."""

METHODS = {
    "zero-shot": {"scope": "none", "alpha": 0.0, "steps": 0},
    "grpo": {"scope": "none", "alpha": 0.0, "steps": 150},
    "ah-grpo": {"scope": "all", "alpha": 0.5, "steps": 150},
    "sa-ah-grpo": {"scope": "negative", "alpha": 0.5, "steps": 180},
    **CONTROLS,
}
"""The paper's base row and three methods (Section 4.3): which rollouts are discounted, how strongly, how long; and
this project's controls."""

METHOD_FIELDS = ("method", "scope", "alpha", "rule")
"""What makes a method; all else is the setting it was run in."""

METHOD_LABELS = {
    "zero-shot": "Base (zero-shot)", "grpo": "GRPO", "ah-grpo": "AH-GRPO", "sa-ah-grpo": "SA-AH-GRPO",
    "control-position": "Position decay", "control-shuffled": "Shuffled entropy", "control-scalar": "One scalar",
    "control-mirror": "Mirror (successes)", "control-local": "Entropy, not cumulative",
    "control-inverse": "Inverse entropy", "control-top-entropy": "Top-entropy mask",
}  # fmt: skip

BATCH_READINGS = {"table": 4, "log": 2}
"""Prompts per optimizer step: Table 1 read literally, or as the paper's logged fractions imply (Table 6)."""

_MICRO = {
    "dataset": "micro",
    "learning_rate": 2e-4,
    "prompts_per_step": 8,
    "num_generations": 8,
    "gradient_accumulation_steps": 1,
    "max_prompt_tokens": 64,
    "max_completion_tokens": 96,
    "eval_batch_size": 250,
    "system_prompt": "none",
}
SCALES = {
    "micro-s": {**_MICRO, "model": "micro-s"},
    "micro-l": {**_MICRO, "model": "micro-l"},
    "smollm2": {
        "model": "smollm2",
        "dataset": "gsm_symbolic",
        "prompts_per_step": 4,
        "max_completion_tokens": 256,
        "eval_batch_size": 16,
    },
    "qwen2.5-1.5b": {"model": "Qwen/Qwen2.5-1.5B-Instruct"},
    "qwen2.5-3b": {"model": "Qwen/Qwen2.5-3B-Instruct"},
}
"""What each scale changes from Table 1. Every difference is shown beside the results (``differences``)."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. Defaults are Table 1 and Sections 4.1 to 4.4, for SA-AH-GRPO on the 1.5B model.

    Raises:
        ValueError: a field out of its range, with what was expected and what came.
    """

    scale: str = "qwen2.5-1.5b"
    method: str = "sa-ah-grpo"
    seed: int = 123
    # Model and adapter (Section 4.2)
    model: str = "Qwen/Qwen2.5-1.5B-Instruct"
    load_in_4bit: bool = False
    fast_inference: bool = False
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    # Data (Section 4.1): a hub id, "micro" (the micro models' own problems), or a reasoning-gym task
    dataset: str = "openai/gsm8k"
    data_seed: int = 123
    train_examples: int = 800
    eval_examples: int = 500
    system_prompt: str = "tags"
    # Objective (Eq. 5 to 9)
    scope: str = "negative"
    alpha: float = 0.5
    rule: str = "cumulative"
    denominator: str = "group"
    entropy_top_k: int | None = 500
    reward_threshold: float = 0.15
    beta: float = 0.04
    epsilon: float = 0.2
    # Optimisation (Table 1)
    steps: int = 180
    learning_rate: float = 5e-6
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    prompts_per_step: int = 4
    num_generations: int = 4
    gradient_accumulation_steps: int = 2
    # Sampling and evaluation (Section 4.4)
    temperature: float = 1.0
    max_prompt_tokens: int = 512
    max_completion_tokens: int = 512
    eval_every: int = 30
    save_every: int = 15
    eval_batch_size: int = 32

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check_type(field, value)
            if field.type is float:
                # 1 and 1.0, 0.0 and -0.0 are one run, so they must give one id.
                object.__setattr__(self, field.name, float(value) + 0.0)
        _check_ranges(self)

    @property
    def warmup_steps(self):
        """max(5, floor(steps / 10)), Table 1."""
        return max(5, self.steps // 10)

    @property
    def rollouts_per_step(self):
        return self.prompts_per_step * self.num_generations

    @property
    def micro_batch_size(self):
        """Rollouts of one forward and backward pass; a whole number of groups."""
        return self.rollouts_per_step // self.gradient_accumulation_steps

    @property
    def run_id(self):
        """Readable, unique name of the run: same fields, same id, also after RunConfig has gained a field."""
        values = self.to_dict()
        changed = {f.name: values[f.name] for f in dataclasses.fields(self) if values[f.name] != f.default}
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.scale}-{self.method}-a{self.alpha:g}-seed{self.seed}-{self.steps}steps-{digest}"

    def to_dict(self):
        return dataclasses.asdict(self)

    def to_json(self, path):
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, values):
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            hints = "".join(_nearest(name, names) for name in unknown)
            raise ValueError(f"config keys must be fields of RunConfig. Got unknown {unknown}.{hints}")
        return cls(**values)

    @classmethod
    def from_json(cls, path):
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    @property
    def has_own_rule(self):
        """Whether the rule is the method's own, not one that it was run under to be compared."""
        return self.rule == METHODS[self.method].get("rule", type(self).rule)

    def replace(self, **changes):
        return type(self).from_dict({**self.to_dict(), **changes})

    def sibling(self, method, alpha=None):
        """The run to compare with this one: another method (and alpha), everything else alike.

        A run of its method's own length and alpha has siblings of theirs; another length or alpha is kept, but for
        the methods that have none.
        """
        check_choice("method", method, METHODS)
        # Its own method gives the run itself, also where an override changed the method's scope.
        own = METHODS[self.method]
        values = {"rule": type(self).rule, **METHODS[method]} if method != self.method else {}
        for name in ("steps", "alpha"):
            if values.get(name) and own[name] and getattr(self, name) != own[name]:
                values[name] = getattr(self, name)
        return self.replace(method=method, **{**values, **({} if alpha is None else {"alpha": alpha})})

    def differences(self):
        """{field: (paper's value, this run's value)} where a hyperparameter of Table 1 was changed."""
        reference = preset("qwen2.5-3b" if self.scale == "qwen2.5-3b" else "qwen2.5-1.5b", self.method)
        names = [n for n in self.to_dict() if n not in ("scale", "method", "model", "seed", "eval_batch_size")]
        pairs = {name: (getattr(reference, name), getattr(self, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def preset(scale, method, batch_reading=None, **changes):
    """The configuration of one method at one scale; ``changes`` override single fields.

    Args:
        scale: a key of ``SCALES``; method: a key of ``METHODS``.
        batch_reading: None keeps the scale's batch; "table" or "log" as in ``BATCH_READINGS``.
    """
    check_choice("scale", scale, SCALES)
    check_choice("method", method, METHODS)
    values = {"scale": scale, "method": method, **SCALES[scale], **METHODS[method]}
    if batch_reading is not None:
        check_choice("batch_reading", batch_reading, BATCH_READINGS)
        values["prompts_per_step"] = BATCH_READINGS[batch_reading]
    return RunConfig.from_dict({**values, **changes})


def check_choice(name, value, choices):
    """Raise ValueError unless ``value`` is one of ``choices``; it names the nearest one."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {sorted(choices)}. Got {value!r}.{_nearest(value, choices)}")


def _nearest(name, choices):
    """The question that a mistyped name deserves, or nothing where no name is near."""
    near = difflib.get_close_matches(str(name).lower(), choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _check_type(field, value):
    wanted = {int: int, float: (int, float), str: str, bool: bool}.get(field.type, (int, type(None)))
    if not isinstance(value, wanted) or (isinstance(value, bool) and field.type is not bool):
        name = getattr(field.type, "__name__", field.type)
        raise ValueError(f"{field.name} must be {name}. Got {value!r}.")


def _check_ranges(c):
    check_choice("scale", c.scale, SCALES)
    check_choice("method", c.method, METHODS)
    check_choice("scope", c.scope, ("none", "all", "negative", "positive"))
    check_choice("rule", c.rule, RULES)
    check_choice("denominator", c.denominator, ("group", "batch", "sequence"))
    check_choice("system_prompt", c.system_prompt, ("tags", "none"))
    for name in (
        "train_examples", "eval_examples", "prompts_per_step", "gradient_accumulation_steps", "lora_rank",
        "lora_alpha", "max_prompt_tokens", "max_completion_tokens", "eval_every", "save_every", "eval_batch_size",
    ):  # fmt: skip
        if getattr(c, name) < 1:
            raise ValueError(f"{name} must be at least 1. Got {getattr(c, name)}.")
    for name in ("seed", "data_seed"):
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
    if c.rule != "cumulative" and (c.scope == "none" or c.alpha < 0):
        raise ValueError(
            "a control rule needs a scope other than 'none' and an alpha of at least 0. "
            f"Got {c.rule!r} with {c.scope!r} and {c.alpha}."
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
