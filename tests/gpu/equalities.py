"""Both trainers against the paper's loss in float64: loader, kernels, loss and gradients, on a GPU or a CPU.

    python tests/gpu/cases.py DIRECTORY full|small
    python tests/gpu/equalities.py DIRECTORY cuda|cpu|interpreter unsloth|trl float32|bfloat16|float16 [CASE ...]

A case is "LAYOUT, NAME" or "training"; all are taken when none is given. ``cases.py`` makes the models, the batches and
the references with plain transformers; this computes the same losses and gradients by a trainer and takes real steps. A
process each, because Unsloth patches the model's classes for good and its kernels take no float64. "interpreter" is
Unsloth's CUDA route on a CPU, see tests/unsloth/interpreted.py.
"""

import itertools
import json
import os
import sys
import time
import traceback
from pathlib import Path

from cases import ADAPTERS, CASES, LAYOUTS, MODELS, every
from places import Place, load, start, trainer
from steps import training

SCALE = 1024.0
"""Of float16 losses in their backward pass, so that gradients do not vanish."""


def compare(directory, place, chosen):
    """Go on with ``place.report``: a line on the trainer, one per layout and case, one on the training.

    A case's line has its worst error, the same without the weights, the tap's difference, the shapes of the hidden
    states that the tap read, whether Unsloth trusts its packed rows, and seconds; or what it raised. Returns how many
    raised.
    """
    os.chdir(directory)
    start(place)
    import torch
    import trl

    with place.report(directory).open("a", encoding="utf-8", buffering=1) as report:

        def write(**fields):
            report.write(json.dumps(fields) + "\n")

        write(trainer=trl.GRPOTrainer.__name__, torch=torch.__version__, **vars(place))
        prepared, raised = torch.load(directory / "cases.pt"), 0
        for model, adapter in itertools.product(MODELS, dict.fromkeys(ADAPTERS.values())):
            wanted = [pair for pair in _cases(place, chosen) if (pair[1].model, ADAPTERS[pair[0]]) == (model, adapter)]
            policy = load(directory / model, place, directory / model / adapter) if wanted else None
            for layout, case in wanted:
                try:
                    found = _compared(policy, directory, case, layout, prepared, place)
                except Exception:
                    # The others must not wait for it to be mended: minutes of a card are few.
                    traceback.print_exc()
                    found, raised = {"raised": traceback.format_exc()}, raised + 1
                write(case=f"{layout}, {case.name}", **found)
        if not chosen or "training" in chosen:
            write(training=training(directory, place))
    return raised


def _cases(place, chosen):
    pairs = [(layout, CASES[name]) for layout, name in every(place.backend)]
    return [(layout, case) for layout, case in pairs if not chosen or f"{layout}, {case.name}" in chosen]


def _compared(policy, directory, case, layout, prepared, place):
    import tiny

    started = time.perf_counter()
    arguments, batch, loss, gradients, unweighted = prepared[case.name]
    os.environ["UNSLOTH_GRPO_SEQ_PACKING"] = LAYOUTS[layout]
    config = {"beta": case.beta, "num_generations": len(batch["advantages"]) // 2}
    made = trainer(policy, directory, place, config, **arguments)
    # How many; None lets Unsloth choose by free memory.
    made.args.unsloth_grpo_mini_batch = 2 if layout == "mini-batches" else 1
    batch = tiny.in_unsloths_layout(batch) if place.backend == "unsloth" else batch
    batch = {key: value.to(policy.device) for key, value in batch.items()}
    shapes = []
    # Until Unsloth has verified a packed forward row by row it is not the one that will run.
    for _ in range(2 if layout == "packed" and _trusts_packing(policy) is None else 1):
        with _watched(made, shapes):
            found = _loss_and_gradients(made, batch, place)
    return {
        "error": tiny.worst_error(found, (loss, gradients)), "unweighted": tiny.worst_error(found, unweighted),
        "tap_difference": made._tap and made._tap.difference, "states": shapes,
        "packing_trusted": _trusts_packing(policy), "seconds": round(time.perf_counter() - started, 2),
    }  # fmt: skip


def _trusts_packing(policy):
    return getattr(policy, "_unsloth_seq_packing_grad_ok", None)


def _watched(made, shapes):
    """The tap's own listening, noting the shapes of what it heard; nothing where the entropy is exact."""
    from contextlib import contextmanager, nullcontext

    @contextmanager
    def noted():
        keep = made._tap._keep

        def noting(module, inputs, output):
            keep(module, inputs, output)
            shapes.append(list(made._tap._hidden[-1].shape[:2]))

        made._tap._keep = noting
        try:
            yield
        finally:
            del made._tap._keep

    return noted() if made._tap else nullcontext()


def _loss_and_gradients(made, batch, place):
    import tiny
    import torch

    scaler = torch.amp.GradScaler(batch["prompt_ids"].device.type, init_scale=SCALE, enabled=place.dtype == "float16")
    if scaler.is_enabled():
        # Unsloth's loss takes its scale from here, and none from what its backward pass is given.
        made.accelerator.scaler = scaler
    made.model.zero_grad()
    made.model.train()
    with made.compute_loss_context_manager():
        loss = made.compute_loss(made.model, batch)
    scaler.scale(loss).backward()
    found = tiny.gradients(made.model).items()
    return loss.item(), {name: gradient.cpu() / scaler.get_scale() for name, gradient in found}


if __name__ == "__main__":
    sys.exit(min(1, compare(Path(sys.argv[1]).resolve(), Place(*sys.argv[2:5]), sys.argv[5:])))
