"""``make gpu-test``: both trainers' losses and gradients on a GPU, and the same code on a CPU wherever tests run."""

import importlib.util

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from cases import CASES
from reports import compared, prepared

from sa_ah_lib import rulebook
from sa_ah_lib.gpu_card import verdicts

PEAKED = "packed, peaked, top-K, negative, group, beta 0.04, fresh"
CHOSEN = {
    # The matrix is tests/unsloth/test_seam.py's there; this shows that what a GPU will run, runs.
    ("cpu", "float32"): ("mini-batches, flat, top-K, all, batch, beta 0.04, fresh", PEAKED, "training"),
    ("cpu", "bfloat16"): (PEAKED, *(f"packed, {name}" for name, case in CASES.items() if case.rule)),
}
PLACES = (
    "cpu unsloth float32", "cpu unsloth bfloat16", "cuda unsloth bfloat16", "cuda unsloth float16",
    "cuda trl bfloat16", "cuda trl float16",
)  # fmt: skip


@pytest.fixture(scope="module")
def full_cases(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("equalities"), "full")


@pytest.fixture(scope="module", params=PLACES)
def report(request, small_cases):
    """One trainer's report on one device. Stock TRL on a CPU is tests/torch/test_trainer.py's."""
    device, backend, dtype = request.param.split()
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if (device, dtype) == ("cuda", "bfloat16") and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("needs a card with bfloat16")
    if backend == "unsloth" and importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    directory = request.getfixturevalue("full_cases") if device == "cuda" else small_cases
    found = compared(directory, device, backend, dtype, CHOSEN.get((device, dtype), ()))
    assert found["trainer"].startswith("Unsloth") == (backend == "unsloth")
    return found


def test_loss_and_every_gradient_are_the_papers(report):
    """Triton kernels, compiled losses or a patched forward that compute something else than the CPU tests saw."""
    assert verdicts.losses(report) == []


def test_the_tap_reads_the_layout_of_each_case(report):
    """On a GPU with realistic logits too: there a wrong state and a rounded logit must be told apart."""
    assert verdicts.layouts(report, 4 if report["device"] == "cpu" else 8) == []


def test_real_steps_move_every_adapter_matrix_and_log_table_6(report):
    if "training" not in report:
        pytest.skip("the loss only")
    assert verdicts.training(report) == []


def test_every_rule_of_the_registry_is_a_case():
    """A rule that was registered and never seen on a card."""
    assert {case.rule for case in CASES.values()} >= rulebook.RECORDS.keys() - {"cumulative"}
