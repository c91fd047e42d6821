"""One run as one frozen dataclass: its defaults are the paper's Table 1, its presets the scales and methods."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sa_ah_lib.config_ranges import check_choice, check_ranges, check_type, nearest, own_parameters

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
"""SA-AH-GRPO with one part of its rule taken away, see ``rules.cumulative``; the mirror discounts successes."""

METHODS = {
    "zero-shot": {"scope": "none", "alpha": 0.0, "steps": 0},
    "grpo": {"scope": "none", "alpha": 0.0, "steps": 150},
    "ah-grpo": {"scope": "all", "alpha": 0.5, "steps": 150},
    "sa-ah-grpo": {"scope": "negative", "alpha": 0.5, "steps": 180},
    **CONTROLS,
}
"""The paper's base row and three methods (Section 4.3): which rollouts are discounted, how strongly, how long; and
this project's controls."""

METHOD_FIELDS = ("method", "scope", "alpha", "rule", "rule_parameters")
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
_WORKED = {**_MICRO, "max_completion_tokens": 112}
SCALES = {
    "micro-s": {**_MICRO, "model": "micro-s"},
    "micro-l": {**_MICRO, "model": "micro-l"},
    "micro-sum": {**_WORKED, "model": "micro-sum", "dataset": "micro-sum", "learning_rate": 1.2e-3},
    "micro-legs": {**_WORKED, "model": "micro-legs", "dataset": "micro-legs"},
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

    ``rule`` is a name in ``rulebook.RECORDS``. ``alpha`` and ``scope`` are the strength and the rollouts of the paper's
    rule and its controls; a published rule has ``scope="none"`` and parameters of its own in ``rule_parameters``, a
    dictionary of those that differ from its defaults (kept as sorted pairs, so that a configuration can be hashed).

    Raises:
        ValueError: a field out of its range, with what was expected and what came.
    """

    scale: str = "qwen2.5-1.5b"
    method: str = "sa-ah-grpo"
    seed: int = 123
    # Model and adapter (Section 4.2)
    model: str = "Qwen/Qwen2.5-1.5B-Instruct"
    warm_start: int = 0  # of a micro model; each has problems of its own
    load_in_4bit: bool = False
    fast_inference: bool = False
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    # Data (Section 4.1): a hub id, one of ``data.MICRO_TASKS``, or a reasoning-gym task
    dataset: str = "openai/gsm8k"
    data_seed: int = 123
    train_examples: int = 800
    eval_examples: int = 500
    system_prompt: str = "tags"
    # Objective (Eq. 5 to 9)
    scope: str = "negative"
    alpha: float = 0.5
    rule: str = "cumulative"
    rule_parameters: tuple = ()
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
            if field.name == "rule_parameters":
                continue
            check_type(field, value)
            if field.type is float:
                # 1 and 1.0, 0.0 and -0.0 are one run, so they must give one id.
                object.__setattr__(self, field.name, float(value) + 0.0)
        object.__setattr__(self, "rule_parameters", own_parameters(self.rule, self.rule_parameters))
        check_choice("scale", self.scale, SCALES)
        check_choice("method", self.method, METHODS)
        check_ranges(self)

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
        changed = {f.name: values[f.name] for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.scale}-{self.method}-a{self.alpha:g}-seed{self.seed}-{self.steps}steps-{digest}"

    def to_dict(self):
        return {**dataclasses.asdict(self), "rule_parameters": dict(self.rule_parameters)}

    def to_json(self, path):
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, values):
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            hints = "".join(nearest(name, names) for name in unknown)
            raise ValueError(f"config keys must be fields of RunConfig. Got unknown {unknown}.{hints}")
        return cls(**values)

    @classmethod
    def from_json(cls, path):
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    @property
    def has_own_rule(self):
        """Whether the rule is the method's own, not one that it was run under to be compared."""
        return self.rule == METHODS[self.method].get("rule", type(self).rule) and not self.rule_parameters

    def replace(self, **changes):
        """A copy with some fields changed; another rule starts with its own default parameters."""
        if changes.get("rule", self.rule) != self.rule:
            changes = {"rule_parameters": {}, **changes}
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
