"""Loading and saving through Unsloth; the only module that imports it.

Import this module before trl, transformers or peft: Unsloth patches them as it is imported.
"""

import gc
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_ah_lib.config import LORA_TARGETS, RunConfig
from sa_ah_lib.train import smollm2

# One cache for all notebooks, or each would leave an unsloth_compiled_cache/ beside itself.
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(smollm2.CACHE / "unsloth_compiled_cache"))
# The policy's pass cannot share prompts where it has entropies; a reference that does has other rounding.
os.environ.setdefault("UNSLOTH_GRPO_PREFIX_GROUPER", "0")

# Else vLLM samples from weights into which the adapter is folded, rounded to 16 bits: small adapters are lost there.
os.environ.setdefault("UNSLOTH_VLLM_MERGED_ROLLOUT", "0")

import unsloth  # before torch and transformers, which it patches
import torch
from transformers.utils import logging as transformers_logging

from sa_ah_lib.upstream import decoding, vllm
from sa_ah_lib.train import distributed
from sa_ah_lib.train.adapter import on_base
from sa_ah_lib.train.shipped import WARM_STARTS, is_small, shipped_path

# The bar over a model's weights is done in seconds, and stays at 0% in every executed notebook.
transformers_logging.disable_progress_bar()


@dataclass
class Loaded:
    """A model with its tokenizer (padding on the left), the device's name, and where its weights came from.

    ``source``: ``name``, a hub id or a directory's name, and ``commit``, the hub's, None for a directory.
    """

    model: Any
    tokenizer: Any
    device: str
    source: dict


THREADS = torch.get_num_threads()
"""Torch's own number on this machine, before a micro model had it changed."""


def device_name() -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def choose_threads(config: RunConfig) -> None:
    """One CPU thread for a micro model, unless OMP_NUM_THREADS says otherwise; torch's own number for all else.

    Their matrices are too small to share out, and on a busy machine threads that wait for each other take several times
    longer. It is also what the published runs had, so that theirs can be repeated.
    """
    if torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ:
        return
    torch.set_num_threads(1 if config.model.startswith("micro-") else THREADS)


def peak_memory() -> int | None:
    """The most bytes that torch held on the GPU since ``free``, else that this process had, or None."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free() -> None:
    """Give back what nobody holds any more, and count the GPU's peak anew; a process's own cannot be."""
    # A trainer and its callbacks hold each other, and with them a model.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def release(loaded: Loaded) -> None:
    """Give back what a model holds beside torch's own memory: its vLLM engine, if it has one."""
    engine = getattr(loaded.model, "vllm_engine", None)
    # It also ends the process group, which several processes need.
    if engine is not None and distributed.count() == 1:
        from unsloth_zoo.vllm_utils import delete_vllm

        delete_vllm(engine)


def parameters(model: Any) -> int:
    """How many numbers a model has; one that is quantized to 4 bit holds two in a byte."""
    states = ((getattr(p, "quant_state", None), p) for p in model.parameters())
    return sum(p.numel() if state is None else state.shape.numel() for state, p in states)


def precision() -> tuple[torch.dtype, dict[str, Any]]:
    """(dtype, GRPOConfig flags): bfloat16 where the card has it, float16 on older cards, float32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32, {"use_cpu": True, "bf16": False, "fp16": False}
    if torch.cuda.is_bf16_supported():
        return torch.bfloat16, {"bf16": True, "fp16": False}
    return torch.float16, {"bf16": False, "fp16": True}


def model_path(name: str, warm_start: int = 0) -> str:
    """Where ``name`` loads from: a directory for the micro models and "smollm2", else the hub id or path itself."""
    if name in WARM_STARTS:
        return str(shipped_path(name, warm_start))
    if name == "smollm2":
        return str(smollm2.path())
    return name


def load(config: RunConfig, adapter: str | Path | None = None) -> Loaded:
    """The base model of ``config`` with a fresh LoRA adapter (Section 4.2), or with a saved one.

    Args:
        config: a ``RunConfig``.
        adapter: None, or a directory that ``save_adapter`` wrote.

    Raises:
        OSError: the model cannot be found; names the offline choices. ValueError: vLLM wanted but missing.
    """
    dtype, _ = precision()
    extra = vllm.loader_arguments(config)
    path = model_path(config.model, config.warm_start)
    # A bare relative name would be asked of the hub first.
    path = str(Path(path).resolve()) if Path(path).is_dir() else path
    try:
        with on_base(adapter, path) if adapter else nullcontext(path) as source:
            model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
                source,
                max_seq_length=config.max_prompt_tokens + config.max_completion_tokens,
                dtype=dtype,
                load_in_4bit=config.load_in_4bit,
                # Else Unsloth loads its own copy of a known model, in 4 bit one that is quantized in another way.
                use_exact_model_name=True,
                **extra,
            )
    except (OSError, ValueError, RuntimeError) as error:
        # An engine's own complaint, of too little memory say, has no other remedy than what it names.
        if config.fast_inference and isinstance(error, ValueError):
            raise
        # On a card Unsloth says with it that there is no such model; all others are no matter of a name.
        if isinstance(error, RuntimeError) and "Failed to load model" not in str(error):
            raise
        raise OSError(
            f"could not load {path!r} ({error}). Offline, it must be in the hub's cache under this very name; else set "
            "model to a local directory, or SCALE to 'micro-s' or 'smollm2'."
        ) from error
    if adapter is None:
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=list(LORA_TARGETS),
            bias="none",
            random_state=config.seed,
            use_gradient_checkpointing="unsloth" if torch.cuda.is_available() and not is_small(config.model) else False,
        )
        _check_targets(model)
    if config.fast_inference:
        vllm.restore_generation_config(model.get_base_model(), path)
    tokenizer.padding_side = "left"
    decoding.separate_padding(model, tokenizer)
    decoding.keep_whole(tokenizer)
    return Loaded(model, tokenizer, device_name(), _source(model))


def _check_targets(model):
    """Raise ValueError where the adapter is not on every kind of projection of ``LORA_TARGETS``."""
    adapted = {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_A" in name}
    lacking = sorted(set(LORA_TARGETS) - adapted)
    if lacking:
        raise ValueError(
            f"the model must have the seven projections that LoRA trains (Section 4.2). {type(model).__name__} has no "
            f"{', '.join(lacking)} of its own; choose a model that does not fuse them."
        )


def save_adapter(loaded: Any, directory: str | Path) -> None:
    """Save the LoRA adapter (safetensors) and the tokenizer, without TRL's reference copy of the adapter.

    An adapter that learnt nothing is saved too, and that is printed.
    """
    changed = [p.detach().abs().max().item() > 0 for name, p in loaded.model.named_parameters() if "lora_B" in name]
    if not any(changed):
        print(
            "Nothing was learnt: every lora_B of the adapter is zero. The first step has learning rate 0, so one step "
            "learns nothing; nor do steps in which no group has a signal, or a learning rate of 0."
        )
    loaded.model.save_pretrained(
        directory, safe_serialization=True, selected_adapters=list(loaded.model.active_adapters)
    )
    loaded.tokenizer.save_pretrained(directory)


def cached(name: str) -> bool:
    """Whether a hub model is on this disk whole: its configuration, and every file of its weights."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str):
        return False
    folder = Path(found).parent
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    return all((folder / part).is_file() for part in json.loads(index.read_text())["weight_map"].values())


def check_llama_cpp() -> None:
    """Raise RuntimeError unless Unsloth finds a built llama.cpp, which makes its GGUF files.

    Asked first because Unsloth, where it finds none, installs system packages and builds one without a question.
    """
    from unsloth_zoo import llama_cpp

    try:
        llama_cpp.check_llama_cpp()
    except RuntimeError as error:
        raise RuntimeError(
            f"GGUF needs llama.cpp, built, with llama-quantize and its converter ({error}). Build it once with "
            "`python -c 'from unsloth_zoo.llama_cpp import install_llama_cpp; install_llama_cpp()'` (online; it may "
            "install system packages), or name a built one in UNSLOTH_LLAMA_CPP_PATH, or leave out 'gguf'."
        ) from error


def _source(model):
    """What was really loaded below an adapter, by the loader's own word."""
    loaded = model.get_base_model().config
    name = loaded._name_or_path
    directory = Path(name).is_dir()
    return {"name": Path(name).name if directory else name, "commit": getattr(loaded, "_commit_hash", None)}
