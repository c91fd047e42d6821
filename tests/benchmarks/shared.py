"""What the benchmarks share: models with random weights, peaks of memory, interleaved measurement, tables."""

import json
import platform
import statistics
import sys
import time
import weakref
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT / "tests", ROOT):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def training_dtype(device):
    """float32 on a CPU; on a card bfloat16 where it multiplies so, and float16 on older ones."""
    if device == "cpu":
        return torch.float32
    # Unsloth answers for the card, torch for what it can emulate, too.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


# Qwen2.5's published geometries; "tiny" has the same parts, and a vocabulary beyond K = 500.
GEOMETRIES = {
    "qwen2.5-1.5b": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "qwen2.5-3b": {
        "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 640,
    },
}  # fmt: skip


def random_qwen2(geometry, initializer_range=0.02):
    """A Qwen2 of that geometry (a dict as in ``GEOMETRIES``) with random weights, on the default device."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        **geometry, max_position_embeddings=4096, rms_norm_eps=1e-6, tie_word_embeddings=True,
        initializer_range=initializer_range, bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def padded_tokenizer(size):
    """The micro models' tokenizer with a made-up token for every id up to ``size``, so that any id can be decoded."""
    from tokenizers import Tokenizer

    from sa_ah_lib.micro.byte_tokenizer import build_tokenizer

    made = build_tokenizer()
    core = json.loads(made.backend_tokenizer.to_str())
    core["model"]["vocab"].update({f"<{i}>": i for i in range(len(made), size)})
    made._tokenizer = Tokenizer.from_str(json.dumps(core))
    return made


def save_random_model(name, directory, dtype):
    """Write geometry ``name`` with random weights and a tokenizer of its size into ``directory``, and return that."""
    geometry = GEOMETRIES[name]
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        # Wide in the tiny model, so that its entropies are not all at their maximum.
        model = random_qwen2(geometry, 0.3 if name == "tiny" else 0.02)
    model.to(dtype).save_pretrained(directory)
    padded_tokenizer(geometry["vocab_size"]).save_pretrained(directory)
    del model
    torch.cuda.empty_cache()
    return directory


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


@contextmanager
def peak_bytes():
    """A list that holds, after the block, the peak of bytes that the block held beyond what was there before it.

    By the allocator on a GPU; on a CPU counted by operation, which slows the block down.
    """
    found = []
    if not torch.cuda.is_available():
        with LiveBytes() as counter:
            yield found
        found.append(counter.peak)
        return
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield found
    torch.cuda.synchronize()
    found.append(torch.cuda.max_memory_allocated() - before)


def now():
    """Wall time in seconds, with the GPU's work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def seconds():
    """A list that holds, after the block, its wall time with the GPU's work done."""
    found, started = [], now()
    yield found
    found.append(now() - started)


def paired_ratio(values, baseline):
    """Median of value / baseline taken turn by turn, so that a change of the machine's load falls on both."""
    return statistics.median(a / b for a, b in zip(values, baseline, strict=True))


def markdown(header, rows):
    """A Markdown table of strings and of numbers already formatted."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def setting(**more):
    """Where and with what a benchmark ran."""
    versions = {}
    for name in ("torch", "transformers", "trl", "unsloth", "peft", "triton"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    return {**more, "device": device, "machine": platform.machine(), "versions": versions}


def report(text, result, path):
    """Print the table and the setting, and write everything to ``path`` as JSON where one is given."""
    print(text)
    print(json.dumps(result["setting"]))
    if path:
        Path(path).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
