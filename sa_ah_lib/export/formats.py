"""Export of a trained run: adapter, merged 16-bit weights or GGUF, compared with the adapter before they are kept.

Unsloth merges and converts (PEFT merges float32 models, as on a CPU). What was written is then read back by plain
transformers in a process of its own and must say what the adapter says. Files that were not compared, or that failed,
stay under ``<format>.unverified``.
"""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path

from sa_ah_lib.train import models  # first: it imports unsloth, which patches what follows

import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id

from sa_ah_lib.export import card, verify
from sa_ah_lib.export.reload import next_tokens, reloaded_next_tokens
from sa_ah_lib.train import data
from sa_ah_lib.train.evaluation import generating, greedy
from sa_ah_lib.train.prompts import encode_prompts
from sa_ah_lib.train.run import Run
from sa_ah_lib.upstream.hooks import REFERENCE

FORMATS = ("adapter", "merged_16bit", "gguf")
DTYPES = ("bfloat16", "float16")
PROMPTS = 16


def export(
    run: Run,
    formats: Sequence[str] = (),
    push_to: str = "",
    data_dir: str | Path | None = None,
    quantization: str = "q8_0",
    dtype: str = "bfloat16",
) -> dict[str, Path]:
    """Export a trained run's model; with no formats, nothing is loaded and nothing is done.

    Args:
        run: a finished ``run.Run`` with its adapter.
        formats: any of ``FORMATS``. The adapter is there already: it is checked and gets its model card.
        push_to: "" or a hub id, "name/model". Each format goes to a private repository of its own,
            "name/model-<format>", after it was checked.
        data_dir: GSM8K's own files, as for ``training.run``; the check's prompts are evaluation problems.
        quantization: llama.cpp's name of the GGUF's number format.
        dtype: of the merged weights, "bfloat16" (as Qwen 2.5 is published) or "float16", on every machine.

    Returns:
        {format: its directory}.

    Raises:
        ValueError: an unknown format or dtype, a bad hub id or one without a format, or an adapter that was not
            trained.
        ExportMismatchError: the exported model differs from the adapter, or is of another dtype; says by how much.
        RuntimeError: GGUF is asked for and llama.cpp is not there.
    """
    check_request(formats, push_to, dtype)
    if not formats:
        return {}
    if not (run.directory / "adapter").is_dir():
        raise ValueError(f"only a trained run can be exported. Got {run.directory}, which has no adapter/.")
    loaded = models.load(run.config.replace(fast_inference=False), run.directory / "adapter")
    verify.check_trained(loaded.model)
    problems = data.load(run.config, data_dir).evaluation[:PROMPTS]
    spoken = _adapter_speech(loaded, problems, run.config)
    places = {}
    for form in formats:
        places[form], verified = _write(run, form, loaded, spoken, dtype if form == "merged_16bit" else quantization)
        card.write(run, places[form], form, verified)
        if push_to:
            repository = f"{push_to}-{form.replace('_', '-')}"
            HfApi().create_repo(repository, private=True, exist_ok=True)
            # Adapters that were saved before may hold TRL's reference copy in a folder of its own.
            HfApi().upload_folder(repo_id=repository, folder_path=places[form], ignore_patterns=[f"{REFERENCE}/*"])
    return places


def check_request(formats: Sequence[str], push_to: str = "", dtype: str = DTYPES[0]) -> None:
    """Refuse what cannot be exported here, which no hour of training makes possible.

    Raises:
        ValueError, RuntimeError: as ``export``.
    """
    if push_to and not formats:
        raise ValueError(f"EXPORT must name what PUSH_TO uploads, of {', '.join(FORMATS)}. Got none.")
    unknown = [form for form in formats if form not in FORMATS]
    if isinstance(formats, str) or unknown:
        raise ValueError(f"formats must be a list of any of {FORMATS}. Got {formats!r}.")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}. Got {dtype!r}.")
    if push_to:
        validate_repo_id(push_to)
    if "gguf" in formats:
        models.check_llama_cpp()


def _adapter_speech(loaded, problems, config):
    """(rows, base answers): prompts with the adapter's greedy completions, and what the base would say there."""
    prompts = encode_prompts(problems, loaded.tokenizer, config)
    with generating(loaded.model):
        completions = greedy(loaded.model, loaded.tokenizer, prompts, config.max_completion_tokens)
        rows = list(zip(prompts, completions, strict=True))
        with loaded.model.disable_adapter():
            return rows, next_tokens(loaded.model, rows)


def _write(run, form, loaded, spoken, numbers):
    """(directory, sentence on the check) of one format in a format of ``numbers``, compared and put in its place."""
    if form == "adapter":
        return run.directory / "adapter", "Every LoRA matrix is finite and not zero; these are the trained files."
    place = run.directory / "export" / form
    unverified = place.with_name(form + ".unverified")
    shutil.rmtree(unverified, ignore_errors=True)
    unverified.mkdir(parents=True)
    save = _save_merged if form == "merged_16bit" else _save_gguf
    save(loaded, unverified, numbers)
    if form == "merged_16bit":
        verify.check_dtype(unverified, numbers)
    answers = reloaded_next_tokens(unverified, spoken[0], loaded.model.device)
    verified = verify.check(loaded.model, form, unverified, answers, spoken)
    shutil.rmtree(place, ignore_errors=True)
    return unverified.rename(place), verified


def _save_merged(loaded, directory, dtype):
    base = loaded.model.get_base_model().config._name_or_path
    whole = loaded.model.dtype == torch.float32 or "F32" in verify.dtypes(base)
    if verify.is_quantized(loaded.model) or not whole:
        loaded.model.save_pretrained_merged(str(directory), loaded.tokenizer, save_method="merged_16bit", dtype=dtype)
        return
    # Unsloth keeps the type of the base's files, and of a float32 model takes what this CPU computes fast.
    merged = copy.deepcopy(loaded.model).merge_and_unload().to(getattr(torch, dtype))
    merged.save_pretrained(directory)
    loaded.tokenizer.save_pretrained(directory)


def _save_gguf(loaded, directory, quantization):
    scratch = directory / "merging"
    made = loaded.model.save_pretrained_gguf(str(scratch), loaded.tokenizer, quantization_method=quantization)
    for path in made["gguf_files"]:
        shutil.move(path, directory / Path(path).name)
    for leftover in directory.glob("merging*"):
        shutil.rmtree(leftover)
