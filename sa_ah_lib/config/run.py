"""One run as one frozen dataclass, and the presets made into runs. Its defaults are the paper's Table 1."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sa_ah_lib import rulebook
from sa_ah_lib.config.fields import check_choice, checked, nearest, own_parameters, setting
from sa_ah_lib.config.presets import BATCH_READINGS, METHOD_LABELS, METHODS, OTHER_DATA, SCALES, SHORT_QUESTIONS


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. Defaults are Table 1 and Sections 4.1 to 4.4, for SA-AH-GRPO on the 1.5B model.

    ``rule`` is a name in ``rulebook.RECORDS``. ``alpha`` and ``scope`` are the strength and the rollouts of the paper's
    rule and its controls; a published rule has ``scope="none"`` and parameters of its own in ``rule_parameters``, a
    dictionary of those that differ from its defaults (kept as sorted pairs, so that a configuration can be hashed).

    Raises:
        ValueError: a field out of its range, with what was expected and what came.
    """

    scale: str = setting("qwen2.5-1.5b", "The scale whose preset the run was made from.", choices=SCALES)
    method: str = setting("sa-ah-grpo", "The method whose preset the run was made from.", choices=METHODS)
    seed: int = setting(123, "Seed of the adapter, the order of problems and the rollouts.", least=0, below=2**32)
    # Model and adapter (Section 4.2)
    model: str = setting("Qwen/Qwen2.5-1.5B-Instruct", "Hub id or folder of the model, or the name of a shipped one.")
    warm_start: int = setting(
        0, "Which warm start of a micro model; each has problems of its own.", least=0, below=2**32
    )
    load_in_4bit: bool = setting(False, "Whether the frozen weights are held in 4 bits.")
    fast_inference: bool = setting(False, "Whether vLLM generates rollouts; evaluations never use it.")
    lora_rank: int = setting(16, "Rank of the adapter.", least=1)
    lora_alpha: int = setting(32, "Scale of the adapter, which is multiplied by lora_alpha / lora_rank.", least=1)
    lora_dropout: float = setting(0.05, "Share of the adapter's inputs dropped in training.", least=0, below=1)
    # Data (Section 4.1)
    dataset: str = setting("openai/gsm8k", "openai/gsm8k, one of ``data.TASKS``, or a reasoning-gym task.")
    data_seed: int = setting(123, "Seed of the choice of training problems.", least=0, below=2**32)
    train_examples: int = setting(800, "Training problems.", "problems", least=1)
    eval_examples: int = setting(500, "Problems of an evaluation.", "problems", least=1)
    system_prompt: str = setting(
        "tags", "Whether a system prompt asks for the answer's tags.", choices=("tags", "none")
    )
    # Objective (Eq. 5 to 9)
    scope: str = setting(
        "negative", "The rollouts that alpha discounts, by the sign of their advantage.", choices=rulebook.SCOPES
    )
    alpha: float = setting(0.5, "Strength of the discount of the paper's rule and its controls (Eq. 5).")
    rule: str = setting("cumulative", "The token-weight rule.", choices=rulebook.RECORDS)
    rule_parameters: tuple = setting((), "Parameters of a published rule that differ from its defaults.")
    denominator: str = setting("group", "What the weighted sum is divided by.", choices=rulebook.DENOMINATORS)
    entropy_top_k: int | None = setting(500, "K of the top-K entropy; None for the exact one.", "tokens", least=1)
    reward_threshold: float = setting(
        0.15, "Groups whose rewards have a standard deviation below it carry no signal.", "points", least=0
    )
    beta: float = setting(0.04, "Weight of the KL from the reference policy.", least=0)
    epsilon: float = setting(0.2, "Clip of the ratio, on both sides.", least=0)
    # Optimisation (Table 1)
    steps: int = setting(180, "Optimizer steps; 0 for zero-shot.", "steps", least=0)
    learning_rate: float = setting(5e-6, "Largest learning rate of the cosine schedule.", least=0)
    weight_decay: float = setting(0.01, "AdamW's weight decay.", least=0)
    max_grad_norm: float = setting(1.0, "The norm at which gradients are clipped.", least=0)
    prompts_per_step: int = setting(4, "Problems of an optimizer step.", "problems", least=1)
    num_generations: int = setting(
        4, "Rollouts per problem, compared with one another by the advantage.", "rollouts", least=2
    )
    gradient_accumulation_steps: int = setting(2, "Micro-batches of an optimizer step.", "micro-batches", least=1)
    # Sampling and evaluation (Section 4.4)
    temperature: float = setting(1.0, "Sampling temperature of rollouts; evaluations are greedy.", above=0)
    max_prompt_tokens: int = setting(512, "Longest prompt.", "tokens", least=1)
    max_completion_tokens: int = setting(512, "Longest completion.", "tokens", least=1)
    eval_every: int = setting(30, "Steps between two evaluations.", "steps", least=1)
    save_every: int = setting(15, "Steps between two checkpoints.", "steps", least=1)
    eval_batch_size: int = setting(
        32, "Problems evaluated at once; in float32 it does not change the answers.", "problems", least=1
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        object.__setattr__(self, "rule_parameters", own_parameters(self.rule, self.rule_parameters))
        _check_steps(self)
        _check_rule(self)
        _check_batch(self)

    @property
    def warmup_steps(self) -> int:
        """max(5, floor(steps / 10)), Table 1."""
        return max(5, self.steps // 10)

    @property
    def rollouts_per_step(self) -> int:
        return self.prompts_per_step * self.num_generations

    @property
    def micro_batch_size(self) -> int:
        """Rollouts of one forward and backward pass; a whole number of groups."""
        return self.rollouts_per_step // self.gradient_accumulation_steps

    @property
    def run_id(self) -> str:
        """Readable, unique name of the run: same fields, same id, also after RunConfig has gained a field."""
        values = self.to_dict()
        changed = {f.name: values[f.name] for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.scale}-{self.method}-a{self.alpha:g}-seed{self.seed}-{self.steps}steps-{digest}"

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "rule_parameters": dict(self.rule_parameters)}

    def to_json(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            hints = "".join(nearest(name, names) for name in unknown)
            raise ValueError(f"config keys must be fields of RunConfig. Got unknown {unknown}.{hints}")
        return cls(**values)

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    @property
    def has_own_rule(self) -> bool:
        """Whether the rule is the method's own, not one that it was run under to be compared."""
        return self.rule == METHODS[self.method].get("rule", type(self).rule) and not self.rule_parameters

    @property
    def label(self) -> str:
        """What tables and cards call it: its method; under another rule than its own, the rule, too."""
        if self.has_own_rule:
            return METHOD_LABELS[self.method]
        rule = rulebook.get(self.rule).label
        return rule if self.method == "grpo" else f"{METHOD_LABELS[self.method]}, {rule}"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; another rule starts with its own default parameters."""
        if changes.get("rule", self.rule) != self.rule:
            changes = {"rule_parameters": {}, **changes}
        return type(self).from_dict({**self.to_dict(), **changes})

    def sibling(self, method: str, alpha: float | None = None) -> Self:
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

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """{field: (paper's value, this run's value)} where a hyperparameter of Table 1 was changed."""
        reference = preset("qwen2.5-3b" if self.scale == "qwen2.5-3b" else "qwen2.5-1.5b", self.method)
        names = [n for n in self.to_dict() if n not in ("scale", "method", "model", "seed", "eval_batch_size")]
        pairs = {name: (getattr(reference, name), getattr(self, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _check_steps(c):
    if (c.steps == 0) != (c.method == "zero-shot"):
        raise ValueError(f"steps must be at least 1, or 0 for zero-shot. Got {c.steps} for {c.method}.")


def _check_rule(c):
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


def _check_batch(c):
    if c.prompts_per_step % c.gradient_accumulation_steps:
        raise ValueError(
            "prompts_per_step must be a multiple of gradient_accumulation_steps, so that micro-batches hold whole "
            f"groups. Got {c.prompts_per_step} and {c.gradient_accumulation_steps}."
        )


def preset(scale: str, method: str, batch_reading: str | None = None, **changes: Any) -> RunConfig:
    """The configuration of one method at one scale; ``changes`` override single fields.

    A ``rule`` among them is divided as its source divides, unless ``denominator`` is among them too.

    Args:
        scale: a key of ``SCALES``; method: a key of ``METHODS``. Its sizes are those of ``OTHER_DATA`` where
            ``changes`` names a data set that is none of ``SHORT_QUESTIONS``.
        batch_reading: None keeps the scale's batch; "table" or "log" as in ``BATCH_READINGS``.
    """
    check_choice("scale", scale, SCALES)
    check_choice("method", method, METHODS)
    own = SCALES[scale]
    if changes.get("dataset", SHORT_QUESTIONS[0]) not in SHORT_QUESTIONS:
        own = OTHER_DATA.get(scale, own)
    values = {"scale": scale, "method": method, **own, **METHODS[method]}
    if batch_reading is not None:
        check_choice("batch_reading", batch_reading, BATCH_READINGS)
        values["prompts_per_step"] = BATCH_READINGS[batch_reading]
    if changes.get("rule") in rulebook.RECORDS:
        values["denominator"] = rulebook.get(changes["rule"]).denominator
    return RunConfig.from_dict({**values, **changes})
