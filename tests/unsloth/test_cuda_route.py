"""Unsloth's own CUDA route, without a card: its fast Qwen2 model and Triton kernels in Triton's interpreter.

Every case takes seconds of a core, because each program of each kernel is Python. `make test` takes a set in which
every scope, denominator, layout and kind of entropy occurs; `make test-route` all of them.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "gpu")]

import interpreted
from cases import CASES, LAYOUTS, every
from reports import compared

from sa_ah_lib.gpu_card import verdicts

# Against float64 measured 1.4e-6 and 2.9e-3, and 0.26 and more without the weights.
CHOSEN = {
    "float32": (
        "packed, flat, top-K, negative, group, beta 0.04, fresh",
        "packed, flat, exact, positive, group, beta 0.0, fresh",
        "padded, flat, exact, none, sequence, beta 0.0, old",
        "mini-batches, flat, top-K, negative, sequence, beta 0.0, old", "training",
    ),
    "float16": (
        "packed, peaked, top-K, negative, group, beta 0.04, fresh", "padded, flat, top-K, all, batch, beta 0.04, fresh",
        "mini-batches, flat, exact, negative, group, beta 0.04, fresh",
        "dropout, flat, top-K, negative, group, beta 0.04, fresh",
    ),
}  # fmt: skip
WHOLE = os.environ.get("SA_AH_WHOLE_ROUTE") == "1"


@pytest.fixture(scope="module", params=CHOSEN)
def report(request, small_cases):
    """What the route computed in one precision; bfloat16 the interpreter multiplies wrongly."""
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    if failure := interpreted.install():
        pytest.skip(f"Triton for the interpreter could not be installed: {failure}")
    whole = [f"{layout}, {name}" for layout, name in every("unsloth")]
    chosen = [*whole, *(["training"] if request.param == "float32" else [])] if WHOLE else CHOSEN[request.param]
    return compared(small_cases, "interpreter", "unsloth", request.param, chosen)


def test_losses_and_gradients_of_unsloths_kernels_are_the_papers(report):
    """A fast forward, a fused LoRA backward or a packed attention mask that computes something else."""
    assert verdicts.losses(report) == []


def test_the_tap_reads_the_fast_models_hidden_states(report):
    """The fast model returns its states in a forward of its own."""
    assert verdicts.layouts(report, 4) == []


def test_the_route_trains_evaluates_saves_and_loads(report):
    """for_inference and back between two steps, and an adapter that is what was trained."""
    if "training" not in report:
        pytest.skip("accelerate trains in float16 on a card only")
    assert verdicts.training(report) == []


def test_every_scope_denominator_layout_and_entropy_is_in_the_set():
    """A set that was cut for time must not lose one of them."""
    words = {word for names in CHOSEN.values() for name in names for word in name.split(", ")}
    papers = [name for name, case in CASES.items() if not case.rule]
    wanted = {word for name in papers for word in name.split(", ")} | LAYOUTS.keys() | {"training"}
    assert wanted <= words
