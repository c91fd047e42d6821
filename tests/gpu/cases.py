"""What is compared on every device: two models, their batches, and each rule's losses and gradients in float64."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from sa_ah_lib import rulebook

MODELS = ("flat", "peaked")
"""Random logits over 50 tokens, and a language model's: 32,768 tokens, mean normalised entropy 0.02 to 0.03."""
ALPHA = {"flat": 2.0, "peaked": 10.0}
"""Strengths at which leaving the weights out is seen."""
TOP_K = {"flat": 5, "peaked": 500}
LAYOUTS = {"packed": "1", "padded": "0", "mini-batches": "0", "dropout": "0"}
"""UNSLOTH_GRPO_SEQ_PACKING of each; Unsloth forwards a padded batch in two mini-batches in the third one.

The last has LoRA dropout too small to drop anything: kernels of their own that must give what they give without."""
ADAPTERS = {layout: "adapter" for layout in LAYOUTS} | {"dropout": "adapter-dropout"}
NOTHING = 1e-9
"""A chance to drop that rounds to none; 0 would take the kernels without dropout."""


@dataclass(frozen=True)
class Size:
    """Hidden units of the flat model, rollouts in each of two groups, and the longest completion in tokens."""

    units: int
    rollouts: int
    longest: int


SIZES = {"full": Size(128, 4, 24), "small": Size(64, 2, 5)}
"""The small one is for kernels that are interpreted."""


@dataclass(frozen=True)
class Case:
    """One rule on one model; ``old`` is the noise of the old log-probabilities, or None where there are none.

    ``rule`` is one of the registry, compared at parameters of ``rule_cases``; None is the paper's, in ``scope``.
    """

    model: str
    exact: bool
    scope: str
    denominator: str
    beta: float
    old: float | None
    rule: str | None = None

    @property
    def name(self):
        """Every field in words."""
        entropy, logps = "exact" if self.exact else "top-K", "fresh" if self.old is None else "old"
        kind = f"rule {self.rule}" if self.rule else self.scope
        return f"{self.model}, {entropy}, {kind}, {self.denominator}, beta {self.beta}, {logps}"

    @property
    def top_k(self):
        """K of the top-K entropy, or None."""
        return None if self.exact else TOP_K[self.model]


_RULES = (
    ("negative", "group", 0.04, None), ("negative", "sequence", 0.0, 0.3), ("all", "batch", 0.04, None),
    ("positive", "group", 0.0, None), ("none", "sequence", 0.0, 0.3),
)  # fmt: skip
CASES = {
    case.name: case
    for case in (
        *(Case("flat", exact, *rule) for exact in (True, False) for rule in _RULES),
        *(Case("peaked", exact, *_RULES[0]) for exact in (True, False)),
        *(
            Case("peaked", True, "none", record.denominator, 0.04, None, name)
            for name, record in rulebook.RECORDS.items()
            if name != "cumulative"
        ),
    )
}


def layouts_of(case):
    """The layouts that a case is compared in: all, but for a rule that looks at no token's own column, which is one.

    Dropout is LoRA's, whatever the loss is: the paper's objective is enough.
    """
    alike = case.rule and not {"log_probs", "completion_ids"} & set(rulebook.get(case.rule).inputs)
    plain = case.model == "flat" and (case.scope, case.denominator, case.beta, case.old) == _RULES[0]
    return ("packed",) if alike else tuple(layout for layout in LAYOUTS if layout != "dropout" or plain)


def every(backend):
    """(layout, name) of all that is compared with a backend; stock TRL has one layout."""
    if backend == "trl":
        return [("padded", name) for name in CASES]
    return [(layout, name) for layout in LAYOUTS for name, case in CASES.items() if layout in layouts_of(case)]


def prepare(directory, size):
    """Write MODEL/model, MODEL/adapter and cases.pt.

    That is {case: (arguments of the trainer, batch, loss, gradients, loss and gradients without weights)}.
    """
    import torch

    found = {}
    for name in MODELS:
        policy = _policy(directory / name, name, SIZES[size])
        found |= _references(policy, name, SIZES[size])
    # Whole or not at all: a killed process must not leave half of it.
    torch.save(found, directory / "cases.partial")
    (directory / "cases.partial").rename(directory / "cases.pt")


def _policy(directory, name, size):
    import tiny
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import Qwen2ForCausalLM

    from sa_ah_lib.config import LORA_TARGETS

    made = tiny.peaked_model() if name == "peaked" else _flat(size.units)
    # bfloat16 numbers on every device: the reference then has the very weights that a GPU trains.
    made.bfloat16().save_pretrained(directory / "model")
    tiny.tokenizer().save_pretrained(directory / "model")
    base = Qwen2ForCausalLM.from_pretrained(directory / "model", dtype=torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=list(LORA_TARGETS), task_type="CAUSAL_LM")
    made = get_peft_model(base, lora)
    for parameter_name, parameter in made.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.02)
    made.save_pretrained(directory / "adapter")
    tiny.tokenizer().save_pretrained(directory / "adapter")
    _with_dropout(directory / "adapter", directory / ADAPTERS["dropout"])
    base = Qwen2ForCausalLM.from_pretrained(directory / "model", dtype=torch.float32)
    return PeftModel.from_pretrained(base, directory / "adapter", is_trainable=True)


def _with_dropout(adapter, target):
    shutil.copytree(adapter, target)
    path = target / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_dropout": NOTHING}))


def _flat(units):
    import tiny
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=tiny.VOCABULARY, hidden_size=units, intermediate_size=2 * units, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False,
        initializer_range=0.1, pad_token_id=tiny.PAD, eos_token_id=tiny.EOS, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def _references(policy, name, size):
    found, references = {}, {}
    for case in (case for case in CASES.values() if case.model == name):
        key = case.top_k, case.old
        if key not in references:
            references[key] = _batch_and_reference(policy, name, size, case)
        batch, reference = references[key]
        if case.rule:
            import rule_cases

            arguments, weights = rule_cases.steady(
                case.rule, batch, reference.entropy, reference.log_probs.detach(),
                rule_cases.log_vocabulary_of(policy), ALPHA[name],
            )  # fmt: skip
            wanted = reference(denominator=case.denominator, beta=case.beta, weights=weights)
        else:
            arguments = {"alpha": ALPHA[name], "scope": case.scope, "denominator": case.denominator}
            wanted = reference(beta=case.beta, **arguments)
        unweighted = reference(alpha=0.0, scope=case.scope, denominator=case.denominator, beta=case.beta)
        found[case.name] = {"entropy_top_k": case.top_k, **arguments}, batch, *wanted, unweighted
    return found


def _batch_and_reference(policy, name, size, case):
    import rule_cases
    import tiny

    # Of fewer tokens the mean entropy is chance, and rounding it would pass for none.
    longest = max(size.longest, 12) if name == "peaked" else size.longest
    batch = tiny.micro_batch(size=size.rollouts, left=1, right=2, longest=longest)
    batch = rule_cases.walk(batch) if name == "peaked" else batch
    batch = tiny.with_logps(batch, policy, old_noise=case.old)
    return batch, tiny.Reference(policy, batch, case.top_k)


def clean_environment():
    """The process's environment without what Unsloth and accelerate leave in it once they are imported."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "ACCELERATE"))}


if __name__ == "__main__":
    prepare(Path(sys.argv[1]).resolve(), sys.argv[2])
