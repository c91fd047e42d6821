"""gpu-card as on a machine without internet: from the pack alone, beside torch, transformers and peft, on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

sys.path.insert(0, str(Path(__file__).parents[1] / "unsloth"))
import bare
import interpreted

from sa_ah_lib.gpu_pack import __main__ as pack
from sa_ah_lib.gpu_pack import wheels

STAGES = ("environment", "equalities-unsloth-float32", "equalities-unsloth-float16-interpreted", "times-tiny-8",
          "runs-micro", "evaluation")  # fmt: skip
pytestmark = pytest.mark.slow


def start(directory, machine, *stages):
    """gpu-card's exit code, and {stage: its file}, begun by the pack's own start.py on the bare machine."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "ACCELERATE", "PYTHON"))}
    cache = str(interpreted.folder().parent)
    done = subprocess.run(
        [machine, directory / "pack" / "start.py", "--out", directory / "out", "--rehearse",
         "--budget-minutes", "60", "--total-minutes", "60",
         "--stages", ",".join(stages)],
        env={**clean, "SA_AH_CACHE": cache}, cwd=directory, capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    found = {path.stem: json.loads(path.read_text()) for path in (directory / "out" / "card").glob("*.json")}
    assert found, done.stderr[-3000:]
    return done.returncode, found


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the pack is for Linux")
    return bare.machine(tmp_path_factory.mktemp("machine") / "venv")


def test_the_card_is_made_from_the_pack_alone(machine, tmp_path):
    """A wheel that nobody packed, a script that looks beside the checkout, a stage that only a GPU would try."""
    if failure := interpreted.install():
        pytest.skip(f"Triton for the interpreter could not be installed: {failure}")
    manifest = pack.build(tmp_path / "pack", leave_out=(wheels.WEIGHTS,))
    assert all(part["size"] < 60e6 for part in manifest["parts"].values())
    code, found = start(tmp_path, machine, *STAGES)
    # A whole card is too long for a failure's page; a stage's error ends with its reason.
    errors = {name: found[name]["error"][-1500:] for name in STAGES if found[name]["error"]}
    assert errors == {} and {found[name]["state"] for name in STAGES} == {"done"}, errors
    assert code == 0
    versions = found["environment"]["result"]["versions"]
    assert "pytest" not in versions and versions["trl"] == manifest["packages"]["trl"]
    compared = [row["result"] for name, row in found.items() if name.startswith("equalities")]
    assert all(result["compared"] == result["wanted"] and result["wrong"] == [] for result in compared)
    assert [run["finished"] for run in found["runs-micro"]["result"]["runs"]] == [True] * 3
    assert (tmp_path / "out" / "card" / "card" / "card.png").is_file()


def test_a_pack_without_a_needed_wheel_fails(machine, tmp_path):
    """Else the rehearsal would find a package that the pack lacks somewhere else, and show nothing."""
    pack.build(tmp_path / "pack", leave_out=(wheels.WEIGHTS, "datasets"))
    code, found = start(tmp_path, machine, "equalities-unsloth-float32")
    stage = found["equalities-unsloth-float32"]
    assert code == 1 and stage["state"] == "failed" and "No module named 'datasets'" in stage["error"]
