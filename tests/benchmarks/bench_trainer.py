"""What the token weights cost: plain GRPO, SA-AH with exact entropy and SA-AH with top-K entropy, side by side.

    python tests/benchmarks/bench_trainer.py [--model DIR] [--steps N] [--json OUT]

All three run on one LoRA model and one made-up batch, turn by turn (A B C A B C ...), so that a change of the
machine's load falls on all of them. A step is ``compute_loss`` and ``backward``. Memory is the peak of bytes held by
tensors that the step itself allocated, without the model: counted by operation on a CPU, by the allocator on a GPU.
Without --model the shipped micro-l is used; with --vocab a random Qwen2 of that size, which is what shows the
top-K path, since micro-l's vocabulary is smaller than K.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import shared  # first: it makes tests/ and the library importable
import tiny
import torch
import trl
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sa_ah_lib.config import LORA_TARGETS
from sa_ah_lib.train import models
from sa_ah_lib.train.shipped import shipped_path
from sa_ah_lib.trainer import GROUP_KEY, REWARD_KEY, sa_ah_trainer_class

PLAIN = "GRPO (hook off)"
COLUMNS = {"median_seconds": 4, "time_ratio": 3, "peak_mib": 1, "memory_ratio": 3}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model directory; default: the shipped micro-l")
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each variant")
    parser.add_argument("--json", help="also write the result here")
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--group", type=int, default=4, help="rollouts of one prompt")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--completion-tokens", type=int, default=96)
    parser.add_argument("--top-k", type=int, default=500)
    parser.add_argument("--vocab", type=int, help="random weights with this vocabulary instead of a model directory")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    return parser.parse_args()


def load(chosen):
    """A LoRA model in the precision the library trains in."""
    torch.manual_seed(0)
    if chosen.vocab:
        heads = max(1, chosen.hidden // 64)
        geometry = {
            "vocab_size": chosen.vocab, "hidden_size": chosen.hidden, "intermediate_size": 3 * chosen.hidden,
            "num_hidden_layers": chosen.layers, "num_attention_heads": heads, "num_key_value_heads": heads,
        }  # fmt: skip
        base = shared.random_qwen2(geometry, initializer_range=0.2)
    else:
        base = AutoModelForCausalLM.from_pretrained(chosen.model or shipped_path("micro-l"))
    base = base.to("cuda" if torch.cuda.is_available() else "cpu", models.precision()[0])
    policy = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=list(LORA_TARGETS)))
    # What Unsloth's generated trainer asks of a model that Unsloth did not load.
    policy.for_training, policy.for_inference = (lambda *a, **k: policy.train()), (lambda *a, **k: policy.eval())
    return policy


def fixed_batch(chosen, vocabulary, device):
    """Rollouts of unequal length, half of them with a negative advantage."""
    generator = torch.Generator().manual_seed(0)
    rows, width = chosen.rollouts, chosen.completion_tokens
    draw = lambda columns: torch.randint(4, vocabulary, (rows, columns), generator=generator)  # noqa: E731
    lengths = torch.randint(width // 2, width + 1, (rows, 1), generator=generator)
    lengths[0] = width
    mask = (torch.arange(width)[None] < lengths).long()
    groups = torch.arange(rows) // chosen.group
    prompts = draw(chosen.prompt_tokens)[groups * chosen.group]
    batch = {
        "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts),
        "completion_ids": draw(width) * mask, "completion_mask": mask,
        "advantages": torch.tensor([1.0, -1.0]).repeat(rows)[:rows], "num_items_in_batch": mask.sum(),
        GROUP_KEY: groups, REWARD_KEY: torch.rand(rows, generator=generator),
    }  # fmt: skip
    return {key: value.to(device) for key, value in batch.items()}


def variants(policy, chosen, directory):
    """{name: trainer}, all on one model."""
    _, precision = models.precision()
    shared = {
        "per_device_train_batch_size": chosen.rollouts, "num_generations": chosen.group,
        "max_completion_length": chosen.completion_tokens, **precision,
        "use_cpu": not torch.cuda.is_available(),
    }  # fmt: skip
    common = {
        "model": policy, "processing_class": tiny.tokenizer(), "reward_funcs": [tiny.digit_share],
        "train_dataset": tiny.dataset(["1+1"] * chosen.rollouts),
    }  # fmt: skip
    plain = trl.GRPOTrainer(args=tiny.arguments(directory, top_entropy_quantile=1.0, **shared), **common)
    weighted = sa_ah_trainer_class()
    made = {PLAIN: plain} | {
        name: weighted(args=tiny.arguments(directory, **shared), entropy_top_k=top_k, **common)
        for name, top_k in (("SA-AH, exact", None), (f"SA-AH, K={chosen.top_k}", chosen.top_k))
    }
    for trainer in made.values():
        trainer.current_gradient_accumulation_steps = 1
    return made


def step(trainer, batch):
    trainer.compute_loss(trainer.model, dict(batch)).backward()


def cost(trainer, batch, measure):
    trainer.model.zero_grad(set_to_none=True)
    with measure() as found:
        step(trainer, batch)
    return found[0]


def measure(made, batch, steps):
    for trainer in made.values():
        trainer.model.train()
        for _ in range(2):
            cost(trainer, batch, shared.seconds)
    memory = {name: cost(trainer, batch, shared.peak_bytes) for name, trainer in made.items()}
    times = {name: [] for name in made}
    for _ in range(steps):
        for name, trainer in made.items():
            times[name].append(cost(trainer, batch, shared.seconds))
    return {
        name: {
            "median_seconds": statistics.median(times[name]),
            "time_ratio": shared.paired_ratio(times[name], times[PLAIN]),
            "peak_mib": memory[name] / 2**20,
            "memory_ratio": memory[name] / memory[PLAIN],
        }
        for name in made
    }


def table(rows):
    header = ["variant", "median s a step", "time ratio", "peak MiB", "memory ratio"]
    cells = [[name, *(f"{r[key]:.{digits}f}" for key, digits in COLUMNS.items())] for name, r in rows.items()]
    return shared.markdown(header, cells)


def main():
    chosen = arguments()
    policy = load(chosen)
    vocabulary = policy.get_output_embeddings().weight.shape[0]
    with tempfile.TemporaryDirectory() as directory:
        made = variants(policy, chosen, directory)
        rows = measure(made, fixed_batch(chosen, vocabulary, policy.device), chosen.steps)
    setting = shared.setting(
        model=chosen.model or (None if chosen.vocab else "micro-l"), base_trainer=type(made[PLAIN]).__name__,
        vocabulary=vocabulary, hidden=policy.config.hidden_size, layers=policy.config.num_hidden_layers,
        rollouts=chosen.rollouts, prompt_tokens=chosen.prompt_tokens, completion_tokens=chosen.completion_tokens,
        steps=chosen.steps, top_k_is_exact=chosen.top_k >= vocabulary,
    )  # fmt: skip
    shared.report(table(rows), {"setting": setting, "variants": rows}, chosen.json)


if __name__ == "__main__":
    main()
