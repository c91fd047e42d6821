"""``make gpu-test``: both trainers' losses and gradients on a GPU, and the same code on a CPU wherever tests run."""

import importlib.util

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from reports import check_layouts, check_losses, check_training, compared, prepared

TOLERANCE = {("cpu", "float32"): 2e-5, ("cpu", "bfloat16"): 0.12, ("cuda", "bfloat16"): 0.12, ("cuda", "float16"): 0.03}
"""Relative, of the loss and of any parameter's gradient; what a CPU measured is a sixth of it or less."""
PEAKED = "packed, peaked, top-K, negative, group, beta 0.04, fresh"
CHOSEN = {
    # The matrix is tests/unsloth/test_seam.py's there; this shows that what a GPU will run, runs.
    ("cpu", "float32"): ("mini-batches, flat, top-K, all, batch, beta 0.04, fresh", PEAKED, "training"),
    ("cpu", "bfloat16"): (PEAKED,),
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
    if (device, dtype) == ("cuda", "bfloat16") and not torch.cuda.is_bf16_supported():
        pytest.skip("needs a card with bfloat16")
    if backend == "unsloth" and importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    directory = request.getfixturevalue("full_cases") if device == "cuda" else small_cases
    found = compared(directory, device, backend, dtype, CHOSEN.get((device, dtype), ()))
    assert found["trainer"].startswith("Unsloth") == (backend == "unsloth")
    return found


def test_loss_and_every_gradient_are_the_papers(report):
    """Triton kernels, compiled losses or a patched forward that compute something else than the CPU tests saw."""
    check_losses(report, TOLERANCE[report["device"], report["dtype"]])


def test_the_tap_reads_the_layout_of_each_case(report):
    """On a GPU with realistic logits too: there a wrong state and a rounded logit must be told apart."""
    check_layouts(report, 4 if report["device"] == "cpu" else 8)
    for name, case in report["cases"].items():
        assert case["tap_difference"] is None or case["tap_difference"] < 0.1, name


def test_real_steps_move_every_adapter_matrix_and_log_table_6(report):
    if "training" not in report:
        pytest.skip("the loss only")
    check_training(report)
