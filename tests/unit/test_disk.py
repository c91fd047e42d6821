"""Full and read-only disks are named before hours of training, not after."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from sa_ah_lib.config import preset
from sa_ah_lib.train import disk


def test_a_writable_directory_is_made_and_left_empty(tmp_path):
    """The first run of a fresh checkout has no runs directory; a probe left behind would look like a run."""
    disk.check_writable(tmp_path / "a" / "runs")
    assert list((tmp_path / "a" / "runs").iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/runs"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    """A Drive that was not mounted, met after the model was loaded."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="runs directory must be writable. Got .*file.*; set RUNS"):
        disk.check_writable(tmp_path / place)


def test_a_read_only_directory_is_named(tmp_path, monkeypatch):
    """Root may write anywhere, so the refusal is the file system's answer, played back."""

    def refuse(*arguments, **keywords):
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="must be writable. Got Read-only file system"):
        disk.check_writable(tmp_path)


def free(monkeypatch, count):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=count))


def test_too_small_a_disk_says_how_much_is_needed(tmp_path, monkeypatch):
    """The disk fills while the third checkpoint is written, an hour in."""
    free(monkeypatch, 10e6)
    with pytest.raises(OSError, match="must have 25 MB for this run. Got 10 MB; free some"):
        disk.check_room(tmp_path / "run", 25e6)
    disk.check_room(tmp_path / "run", 9e6)


def test_a_resumed_run_is_not_asked_for_its_own_files_again(tmp_path, monkeypatch):
    """A run that fitted must not be refused half-way because its first half is on the disk."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "optimizer.pt").write_bytes(b"0" * 1000)
    free(monkeypatch, 500)
    disk.check_room(tmp_path, 1500)
    with pytest.raises(OSError):
        disk.check_room(tmp_path, 1501)


def test_the_estimate_is_of_the_right_size():
    """Too low lets a run die; ten times too high refuses Colab's disk. Qwen2.5-1.5B has 18.5M LoRA parameters."""
    whole = disk.run_bytes(preset("qwen2.5-1.5b", "sa-ah-grpo"), 18_464_768)
    weights = 18_464_768 * 4
    assert 3 * 3 * weights + weights < whole < 2e9
    assert disk.run_bytes(preset("qwen2.5-1.5b", "zero-shot"), 18_464_768) < 20e6
    longer = preset("qwen2.5-1.5b", "sa-ah-grpo", steps=1800)
    assert disk.run_bytes(longer, 18_464_768) > whole


HOLD = """
import sys, time
from sa_ah_lib.train import disk
with disk.alone(sys.argv[1], "run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_of_two_processes_waits(tmp_path, capsys):
    """Notebook 05 at alpha 0 beside notebook 02 would write one run directory twice at once; a killed one lets go."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        threading.Timer(0.5, first.kill).start()
        with disk.alone(tmp_path, "run"):
            assert first.wait(30) == -signal.SIGKILL
    assert "another process is at run; waiting" in capsys.readouterr().out


def test_two_runs_do_not_wait_for_each_other(tmp_path, capsys):
    with disk.alone(tmp_path, "one"), disk.alone(tmp_path, "two"):
        pass
    assert not capsys.readouterr().out


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    """Some mounted drives refuse locks; that must not end the run."""

    def refuse(*arguments, **keywords):
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(disk.FileLock, "acquire", refuse)
    with disk.alone(tmp_path, "run"):
        pass
    assert "take care not to start run twice" in capsys.readouterr().out
