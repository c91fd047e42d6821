"""An entry's runs end with the entry, however it ends; the runs are stand-ins that wait."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_runs import made_run
from processes import gone, until

from sa_ah_lib.config import preset
from sa_ah_lib.enter import runs
from sa_ah_lib.train import data
from sa_ah_lib.train.reuse import OtherDataError, check_pairs

JOBS = 5


def waiting(values, parent, rule_file, samples):
    """A run of ten minutes that says which process it is."""
    Path(parent, f"seed{values['seed']}").write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


def main(directory):
    """What is stopped below, in a process of its own."""
    # A shell's background jobs, and all that they start, ignore it; a terminal's do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs._one = waiting
    base = preset("micro-s", "grpo")
    try:
        runs.train([(base.replace(seed=seed), directory) for seed in range(JOBS)])
    except KeyboardInterrupt:
        sys.exit(130)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are read from /proc")
@pytest.mark.parametrize(
    "signum,status", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -9)]
)
def test_no_run_outlives_its_entry(signum, status, tmp_path):
    """Ctrl-C waited for whole runs, one of them not begun; a killed entry trained on unseen and held their locks."""
    code = f"import sys; sys.path[:] = {sys.path!r}; import {Path(__file__).stem} as made; "
    entry = subprocess.Popen([sys.executable, "-c", f"{code}made.main({str(tmp_path)!r})"])
    try:
        until(lambda: len(list(tmp_path.iterdir())) == 2 and all(p.read_text() for p in tmp_path.iterdir()))
        pids = [int(path.read_text()) for path in tmp_path.iterdir()]
        assert not any(map(gone, pids))
        entry.send_signal(signum)
        assert entry.wait(240) == status
    finally:
        entry.kill()
    until(lambda: all(map(gone, pids)))
    assert len(list(tmp_path.iterdir())) == 2, "a run began after the entry was stopped"


def test_runs_on_other_problems_are_refused_before_any_training():
    """Twenty minutes of training whose runs then make no pair."""
    run = made_run("grpo", 1, scale="micro-s", steps=3)
    run.environment["data"] = data.load(run.config).record
    check_pairs([run])
    run.environment["data"] = {"source": "older problems", "sha256": "0" * 64}
    with pytest.raises(OtherDataError, match="same problems.*older problems.*000000000000.*LOGS"):
        check_pairs([run])
