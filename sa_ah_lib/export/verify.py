"""Whether exported files are the trained model: what they say, what they keep of the adapter, and their numbers."""

from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from safetensors import safe_open

Rows = list[tuple[list[int], list[int]]]
"""(prompt ids, the adapter's greedy completion ids) pairs."""
Spoken = tuple[Rows, list[list[int]]]
"""Rows, and what the untouched base says on them."""
MOST_DIFFERENT = {"merged_16bit": 0.02, "gguf": 0.05}
"""Largest share of the adapter's greedy tokens that an exported model may not choose: rounding flips near ties."""
LEAST_KEPT = 0.5
"""Smallest share of the adapter's change of the weights that must outlive the rounding to 16 bits."""


class ExportMismatchError(RuntimeError):
    """The exported files are not the trained model."""


def check(model: Any, form: str, files: Path, answers: list[list[int]], spoken: Spoken) -> str:
    """Raise ExportMismatchError where exported ``files`` are not the trained ``model``; a sentence on what was found.

    Args:
        answers: ``next_tokens`` of the exported model on the prompts of ``spoken``.
        spoken: (rows, base answers) as in ``compare``.
    """
    rows, base_answers = spoken
    found = compare(rows, answers, base_answers)
    found["kept"] = kept_share(model, files) if form == "merged_16bit" else None
    told = _sentence(found)
    if is_quantized(model):
        # Its 16-bit base says other things than the one in 4 bits; nobody can say how many.
        if found["same_tokens"] <= found["base_same_tokens"] < 1:
            raise ExportMismatchError(
                f"the files must say more of what the adapter says than the untouched base does. {told} They stay in "
                f"{files}; export the adapter instead."
            )
        return f"{told} The adapter was trained on a base in 4 bits, and these files have the 16-bit one below it."
    if 1 - found["same_tokens"] > MOST_DIFFERENT[form]:
        raise ExportMismatchError(
            f"at most {MOST_DIFFERENT[form]:.0%} of the greedy tokens may differ from the adapter's, but "
            f"{1 - found['same_tokens']:.1%} do. {told} The files stay in {files}; export the adapter instead."
        )
    if found["kept"] is not None and found["kept"] < LEAST_KEPT:
        raise ExportMismatchError(
            f"16-bit rounding may take at most {1 - LEAST_KEPT:.0%} of the adapter's change. {told} The training "
            f"moved the weights too little for a 16-bit merge: export the adapter. The files stay in {files}."
        )
    return told


def is_quantized(model: Any) -> bool:
    """Whether a model's base weights are in 4 or 8 bits."""
    return bool(getattr(model.config, "quantization_config", None))


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


def compare(rows: Rows, answers: list[list[int]], base_answers: list[list[int]]) -> dict[str, Any]:
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


def dtypes(directory: str | Path) -> set[str]:
    """The types of the tensors in a directory's safetensors, as these name them; empty where it is none."""
    found = set()
    for path in Path(directory).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= {file.get_slice(name).get_dtype() for name in file.keys()}
    return found


def check_dtype(directory: str | Path, dtype: str) -> None:
    """Raise ExportMismatchError unless every floating-point tensor in ``directory`` is of ``dtype``."""
    short = {"bfloat16": "BF16", "float16": "F16"}[dtype]
    if others := {name for name in dtypes(directory) if name.startswith(("F", "BF"))} - {short}:
        raise ExportMismatchError(
            f"every merged weight must be {dtype}, but there are {sorted(others)}, as safetensors names them: the base "
            f"model's files are of another dtype. Export with that one. The files stay in {directory}."
        )


def _sentence(found):
    kept = "" if found["kept"] is None else f" They hold {found['kept']:.1%} of the adapter's change of the weights."
    return (
        f"The files were read back: on {found['prompts']} prompts, {found['same_completions']:.1%} of the greedy "
        f"completions and {found['same_tokens']:.2%} of their {found['tokens']} tokens are the adapter's own (the "
        f"untouched base would choose {found['base_same_tokens']:.2%} of them).{kept}"
    )
