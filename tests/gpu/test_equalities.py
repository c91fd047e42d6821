"""``make gpu-test``: both trainers' losses and gradients on a GPU, and the same code on a CPU wherever tests run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

SCRIPT = Path(__file__).parent / "equalities.py"
# Relative, of the loss and of any parameter's gradient; measured on a CPU: 2e-6 in float32, 0.062 at worst in bfloat16
# (a ratio that rounding moves over the clip's edge), where leaving the weights out gives 0.73 and more.
TOLERANCE = {"cpu": 2e-5, "cuda": 0.12}
TABLE_6 = {"reward", "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative", "grad_norm", "step_time"}


def script(*arguments):
    # Unsloth and accelerate leave settings in the environment of a process that imported them.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "ACCELERATE"))}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], env=clean, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("equalities")
    script("prepare", directory)
    return directory


@pytest.fixture(scope="module", params=["cpu unsloth", "cuda unsloth", "cuda trl"])
def report(request, prepared):
    """One trainer's report on one device. Stock TRL on a CPU is tests/torch/test_trainer.py's."""
    device, backend = request.param.split()
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if backend == "unsloth" and importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    found = json.loads(script("compare", prepared, device, backend).rsplit("REPORT", 1)[1])
    assert found["device"] == device and found["trainer"].startswith("Unsloth") == (backend == "unsloth")
    return found


def test_loss_and_every_gradient_are_the_papers(report):
    """Triton kernels, compiled losses or a patched forward that compute something else than the CPU tests saw."""
    worst = max(report["errors"].items(), key=lambda item: item[1][0])
    assert worst[1][0] < TOLERANCE[report["device"]], worst


def test_the_weights_matter_in_these_cases(report):
    """A tolerance that unweighted GRPO would pass too shows nothing."""
    weighted = {name: errors[1] for name, errors in report["errors"].items() if ", none, " not in name}
    assert min(weighted.values()) > 5 * TOLERANCE["cuda"]


def test_two_real_steps_move_every_adapter_matrix_and_log_table_6(report):
    """Generation, scoring, the optimizer and the diagnostics on this device, not only the loss."""
    run = report["training"]
    assert run["moved"] == run["trainable"] and all("lora_" in name for name in run["moved"])
    assert TABLE_6 <= run["logged"].keys()
    assert 0 < run["logged"]["sa_ah/entropy"] < 1 and 0 < run["logged"]["sa_ah/weight"] < 1
