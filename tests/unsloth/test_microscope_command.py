"""The microscope's command on a shipped model, from rollouts to files."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("unsloth")


def test_one_command_measures_a_shipped_model(tmp_path):
    """Every rule on the same rollouts; successes are left alone by SA-AH-GRPO but for the denominator."""
    given = ["--scale", "micro-sum", "--prompts", "6", "--bins", "1", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "sa_ah_lib.microscope", *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    read = {
        name: json.loads((tmp_path / f"{name}-micro-sum-0-a0.5.json").read_text()) for name in ("gradients", "replay")
    }
    settings, rows = read["gradients"]["settings"], read["gradients"]["rows"]
    assert settings["prompts"] == 6 and settings["rollouts"] == 48 and 0.03 < settings["mean_entropy"] < 0.3
    rules = {row["rule"] for row in rows}
    assert len(rules) == 11 and {"GRPO", "AH-GRPO", "SA-AH-GRPO", "One scalar", "AH-GRPO, by position"} <= rules
    noise = {r["rule"]: r["estimate"] for r in rows if r["measure"] == "noise ratio"}
    assert noise["GRPO"] == 1 and all(0.3 < value < 3 for value in noise.values()) and noise["SA-AH-GRPO"] != 1
    # Frozen rollouts have log-probabilities, so rules that read them are replayed too.
    assert len({row["rule"] for row in read["replay"]["rows"]}) > 20
