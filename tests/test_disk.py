"""Full and read-only disks are named before hours of training, not after."""

import os
from types import SimpleNamespace

import pytest

from sa_ah_lib import disk
from sa_ah_lib.config import preset


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
