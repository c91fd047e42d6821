"""The entry's command on a shipped model: killed in its first steps, started again, and its row beside GRPO's."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("unsloth")
psutil = pytest.importorskip("psutil")

from processes import until

from sa_ah_lib.train.runlog import read_jsonl

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rule_file(tmp_path):
    """The page's own example."""
    page = (ROOT / "docs" / "your-own-rule.md").read_text(encoding="utf-8")
    path = tmp_path / "my_rule.py"
    path.write_text(page.split("```python\n", 1)[1].split("```", 1)[0], encoding="utf-8")
    return path


def test_a_killed_entry_leaves_no_run_behind_and_goes_on(rule_file, tmp_path):
    """A worker that outlives the command trains on unseen, and the next command waits for its lock."""
    given = ["--scale", "micro-s", "--steps", "3", "--pairs", "1", "--runs", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "sa_ah_lib.enter", str(rule_file), "--logs", str(ROOT / "figures/logs"), *given]
    with open(tmp_path / "said", "w") as said:
        first = subprocess.Popen(command, stdout=said, stderr=said)
        until(lambda: first.poll() is not None or list(tmp_path.rglob("config.json")))
        children = psutil.Process(first.pid).children(recursive=True)
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert "2 runs are trained now, 2 at a time" in (tmp_path / "said").read_text()
    assert len(children) >= 2, "no worker was at work yet"
    _, alive = psutil.wait_procs(children, timeout=60)
    for process in alive:
        os.kill(process.pid, signal.SIGKILL)
    assert not alive
    assert not list(tmp_path.rglob("finished.json"))
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    assert "| GRPO " in second.stdout and "| Sure failures count less " in second.stdout and "/6" in second.stderr
    (home,) = (tmp_path / "runs" / "enter").iterdir()
    assert {f"board-micro-s.{e}" for e in ("md", "csv", "tex")} <= {path.name for path in home.iterdir()}
    # A run that was killed before its first checkpoint is set aside beside the finished one, with its config.
    done = [path.parent for path in home.glob("*/finished.json")]
    configs = {json.loads((path / "config.json").read_text())["rule"]: path for path in done}
    assert "sure_failures" in configs and len(list(tmp_path.rglob("finished.json"))) == 2
    rows = read_jsonl(configs["sure_failures"] / "completions.jsonl")
    failed = [w for row in rows if row["advantage"] < 0 for w in row["weights"]]
    assert failed and 0.2 <= min(failed) < 1
    assert {w for row in rows if row["advantage"] >= 0 for w in row["weights"]} <= {1.0}
