"""What the token weights cost: plain GRPO, SA-AH with exact entropy and SA-AH with top-K entropy, side by side.

    python tests/benchmarks/bench_trainer.py [--model DIR] [--steps N] [--json OUT]

All three run on one LoRA model and one made-up batch, turn by turn (A B C A B C ...), so that a change of the
machine's load falls on all of them. A step is ``compute_loss`` and ``backward``. Memory is the peak of bytes held by
tensors that the step itself allocated, without the model: counted by operation on a CPU, by the allocator on a GPU.
Without --model the shipped micro-l is used; with --vocab a random Qwen2 of that size, which is what shows the
top-K path, since micro-l's vocabulary is smaller than K.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import weakref
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tiny  # noqa: E402
import torch  # noqa: E402, I001
import trl  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from sa_ah_lib import models  # noqa: E402  (first: it imports unsloth, which patches what follows)
from sa_ah_lib.config import LORA_TARGETS  # noqa: E402
from sa_ah_lib.micro import shipped_path  # noqa: E402
from sa_ah_lib.trainer import GROUP_KEY, REWARD_KEY, sa_ah_trainer_class  # noqa: E402

PLAIN = "GRPO (hook off)"


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
        base = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=chosen.vocab,
                hidden_size=chosen.hidden,
                intermediate_size=3 * chosen.hidden,
                num_hidden_layers=chosen.layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                initializer_range=0.2,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=1,
                pad_token_id=0,
            )  # fmt: skip
        )
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


class LiveBytes(TorchDispatchMode):
    """Peak of bytes in tensor storages that were made inside the block and are still alive."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        inputs = {id(t.untyped_storage()) for t in self._tensors((args, kwargs or {}))}
        for tensor in self._tensors(result):
            storage = tensor.untyped_storage()
            # A view, or a tensor changed in place, holds no bytes of its own.
            if id(storage) not in self.known and id(storage) not in inputs:
                self.known.add(id(storage))
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        return result

    def _freed(self, key, size):
        self.known.discard(key)
        self.live -= size

    @staticmethod
    def _tensors(tree):
        return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def step(trainer, batch):
    trainer.model.zero_grad(set_to_none=True)
    trainer.compute_loss(trainer.model, dict(batch)).backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(trainer, batch):
    started = time.perf_counter()
    step(trainer, batch)
    return time.perf_counter() - started


def peak_bytes(trainer, batch):
    trainer.model.zero_grad(set_to_none=True)
    if not torch.cuda.is_available():
        with LiveBytes() as counter:
            step(trainer, batch)
        return counter.peak
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(trainer, batch)
    return torch.cuda.max_memory_allocated() - before


def measure(made, batch, steps):
    for trainer in made.values():
        trainer.model.train()
        step(trainer, batch)
        step(trainer, batch)
    memory = {name: peak_bytes(trainer, batch) for name, trainer in made.items()}
    times = {name: [] for name in made}
    for _ in range(steps):
        for name, trainer in made.items():
            times[name].append(seconds(trainer, batch))
    return {
        name: {
            "median_seconds": statistics.median(times[name]),
            "time_ratio": statistics.median(t / p for t, p in zip(times[name], times[PLAIN], strict=True)),
            "peak_mib": memory[name] / 2**20,
            "memory_ratio": memory[name] / memory[PLAIN],
        }
        for name in made
    }


def table(rows):
    lines = ["| variant | median s a step | time ratio | peak MiB | memory ratio |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        time_cells = f"{row['median_seconds']:.4f} | {row['time_ratio']:.3f}"
        lines.append(f"| {name} | {time_cells} | {row['peak_mib']:.1f} | {row['memory_ratio']:.3f} |")
    return "\n".join(lines)


def main():
    chosen = arguments()
    policy = load(chosen)
    vocabulary = policy.get_output_embeddings().weight.shape[0]
    with tempfile.TemporaryDirectory() as directory:
        made = variants(policy, chosen, directory)
        rows = measure(made, fixed_batch(chosen, vocabulary, policy.device), chosen.steps)
    result = {
        "setting": {
            "model": chosen.model or (None if chosen.vocab else "micro-l"), "device": models.device_name(),
            "threads": torch.get_num_threads(), "base_trainer": type(made[PLAIN]).__name__, "torch": torch.__version__,
            "trl": trl.__version__, "vocabulary": vocabulary, "hidden": policy.config.hidden_size,
            "layers": policy.config.num_hidden_layers, "rollouts": chosen.rollouts,
            "prompt_tokens": chosen.prompt_tokens, "completion_tokens": chosen.completion_tokens,
            "steps": chosen.steps, "top_k_is_exact": chosen.top_k >= vocabulary,
        },
        "variants": rows,
    }  # fmt: skip
    print(table(rows))
    print(json.dumps(result["setting"]))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
