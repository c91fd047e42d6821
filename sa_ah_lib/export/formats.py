"""Export of a trained run: adapter, merged 16-bit weights or GGUF, compared with the adapter before they are kept.

Unsloth merges and converts (PEFT merges float32 models, as on a CPU). What was written is then read back by plain
transformers in a process of its own and must say what the adapter says. Files that were not compared, or that failed,
stay under ``<format>.unverified``.
"""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa_ah_lib.train import models  # first: it imports unsloth, which patches what follows

import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id
from peft.tuners.lora import LoraLayer
from safetensors import safe_open

from sa_ah_lib.export import card
from sa_ah_lib.export.reload import next_tokens, reloaded_next_tokens
from sa_ah_lib.train import data
from sa_ah_lib.train.evaluation import generating, greedy
from sa_ah_lib.train.prompts import encode_prompts
from sa_ah_lib.train.run import Run
from sa_ah_lib.upstream.hooks import REFERENCE

FORMATS = ("adapter", "merged_16bit", "gguf")
DTYPES = ("bfloat16", "float16")
PROMPTS = 16
MOST_DIFFERENT = {"merged_16bit": 0.02, "gguf": 0.05}
"""Largest share of the adapter's greedy tokens that an exported model may not choose: rounding flips near ties."""
LEAST_KEPT = 0.5
"""Smallest share of the adapter's change of the weights that must outlive the rounding to 16 bits."""


class ExportMismatchError(RuntimeError):
    """The exported files are not the trained model."""


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
        ValueError: an unknown format or dtype, a bad hub id, or an adapter that was not trained.
        ExportMismatchError: the exported model differs from the adapter, or is of another dtype; says by how much.
        RuntimeError: GGUF is asked for and llama.cpp is not there.
    """
    _check_request(run, formats, push_to, dtype)
    if not formats:
        return {}
    loaded = models.load(run.config.replace(fast_inference=False), run.directory / "adapter")
    check_trained(loaded.model)
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


def check_trained(model: Any) -> None:
    """Raise ValueError unless every LoRA B matrix of ``model`` is finite and not all zero."""
    bad = [
        name
        for name, p in model.named_parameters()
        if "lora_B" in name and not (p.detach().abs().max() > 0 and torch.isfinite(p).all())
    ]
    if bad:
        raise ValueError(
            f"every lora_B of an adapter to export must be finite and not zero. Got {len(bad)} that are not, the first "
            f"is {bad[0]}; train the run first, or look for NaN in its train.jsonl."
        )


def compare(
    rows: list[tuple[list[int], list[int]]], answers: list[list[int]], base_answers: list[list[int]]
) -> dict[str, Any]:
    """How far an exported model says what the adapter says.

    Args:
        rows: (prompt ids, the adapter's greedy completion ids) pairs.
        answers, base_answers: ``next_tokens`` of the exported model and of the untouched base on ``rows``.

    Returns:
        dict of counts and shares in [0, 1]: prompts, tokens, same_completions, same_tokens, base_same_tokens.
    """
    completions = [completion for _, completion in rows]
    wanted = [token for tokens in completions for token in tokens]

    def same(given):
        flat = [token for tokens in given for token in tokens]
        return sum(a == b for a, b in zip(wanted, flat, strict=True)) / len(wanted)

    return {
        "prompts": len(rows),
        "tokens": len(wanted),
        "same_completions": sum(a == b for a, b in zip(completions, answers, strict=True)) / len(rows),
        "same_tokens": same(answers),
        "base_same_tokens": same(base_answers),
    }


@torch.no_grad()
def kept_share(model: Any, directory: str | Path) -> float | None:
    """Share of the adapter's change of the weights that the merged files in ``directory`` hold.

    The projection of (merged - base) on the adapter's own change, over all its matrices: 1 is all of it, 0 none. A
    change smaller than half a step of a 16-bit number is rounded away, which happens at small learning rates.

    Returns:
        A float, or None where the base is quantized and has no weights to compare with.
    """
    files = [safe_open(path, "pt") for path in sorted(Path(directory).glob("*.safetensors"))]
    owner = {name: file for file in files for name in file.keys()}
    along, whole = 0.0, 0.0
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        base = module.get_base_layer().weight
        if not base.is_floating_point():
            return None
        change = sum(module.get_delta_weight(adapter) for adapter in module.active_adapters).double()
        key = f"{name.removeprefix('base_model.model.')}.weight"
        found = owner[key].get_tensor(key).to(base.device)
        along += ((found.double() - base.double()) * change).sum().item()
        whole += change.square().sum().item()
    return along / whole


def _check_request(run, formats, push_to, dtype):
    unknown = [form for form in formats if form not in FORMATS]
    if isinstance(formats, str) or unknown:
        raise ValueError(f"formats must be a list of any of {FORMATS}. Got {formats!r}.")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}. Got {dtype!r}.")
    if formats and not (run.directory / "adapter").is_dir():
        raise ValueError(f"only a trained run can be exported. Got {run.directory}, which has no adapter/.")
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
        _check_dtype(unverified, numbers)
    rows, base_answers = spoken
    found = compare(rows, reloaded_next_tokens(unverified, rows, loaded.model.device), base_answers)
    found["kept"] = kept_share(loaded.model, unverified) if form == "merged_16bit" else None
    verified = _sentence(found)
    if 1 - found["same_tokens"] > MOST_DIFFERENT[form]:
        raise ExportMismatchError(
            f"at most {MOST_DIFFERENT[form]:.0%} of the greedy tokens may differ from the adapter's, but "
            f"{1 - found['same_tokens']:.1%} do. {verified} The files stay in {unverified}; export the adapter instead."
        )
    if found["kept"] is not None and found["kept"] < LEAST_KEPT:
        raise ExportMismatchError(
            f"16-bit rounding may take at most {1 - LEAST_KEPT:.0%} of the adapter's change. {verified} The training "
            f"moved the weights too little for a 16-bit merge: export the adapter. The files stay in {unverified}."
        )
    shutil.rmtree(place, ignore_errors=True)
    return unverified.rename(place), verified


def _save_merged(loaded, directory, dtype):
    if loaded.model.dtype != torch.float32 or getattr(loaded.model.config, "quantization_config", None):
        loaded.model.save_pretrained_merged(str(directory), loaded.tokenizer, save_method="merged_16bit", dtype=dtype)
        return
    # Unsloth merges float32, as on a CPU, into bfloat16 or float16 by what this CPU computes fast, whatever it is told.
    merged = copy.deepcopy(loaded.model).merge_and_unload().to(getattr(torch, dtype))
    merged.save_pretrained(directory)
    loaded.tokenizer.save_pretrained(directory)


def _check_dtype(directory, dtype):
    """Raise ExportMismatchError unless every floating-point tensor in ``directory`` is of ``dtype``."""
    short = {"bfloat16": "BF16", "float16": "F16"}[dtype]
    found = set()
    for path in Path(directory).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= {file.get_slice(name).get_dtype() for name in file.keys()}
    if others := {name for name in found if name.startswith(("F", "BF"))} - {short}:
        raise ExportMismatchError(
            f"every merged weight must be {dtype}, but there are {sorted(others)}, as safetensors names them: the base "
            f"model's files are of another dtype. Export with that one. The files stay in {directory}."
        )


def _save_gguf(loaded, directory, quantization):
    scratch = directory / "merging"
    made = loaded.model.save_pretrained_gguf(str(scratch), loaded.tokenizer, quantization_method=quantization)
    for path in made["gguf_files"]:
        shutil.move(path, directory / Path(path).name)
    for leftover in directory.glob("merging*"):
        shutil.rmtree(leftover)


def _sentence(found):
    kept = "" if found["kept"] is None else f" They hold {found['kept']:.1%} of the adapter's change of the weights."
    return (
        f"The files were read back: on {found['prompts']} prompts, {found['same_completions']:.1%} of the greedy "
        f"completions and {found['same_tokens']:.2%} of their {found['tokens']} tokens are the adapter's own (the "
        f"untouched base would choose {found['base_same_tokens']:.2%} of them).{kept}"
    )
