"""Machines on which Unsloth would raise: each is told apart before the import, by files and metadata alone."""

import subprocess
import sys
from importlib import metadata

import pytest

from sa_ah_lib.report import checks
from sa_ah_lib.upstream import machine, versions

ALLOWED = {"unsloth": ["bitsandbytes!=0.46.0,>=0.45.5"], "torchvision": ["torch==2.13.0"]}


@pytest.fixture
def place(monkeypatch):
    """Makes a machine: its card, driver, torch's build, and the versions of packages."""

    def make(card=True, driver=(13, 0), built=(13, 0), **packages):
        here = {"torch": "2.13.0", "bitsandbytes": "0.50.2", **packages}
        monkeypatch.setattr(machine, "has_card", lambda: card)
        monkeypatch.setattr(machine, "driver_cuda", lambda: driver)
        monkeypatch.setattr(machine, "torch_cuda", lambda: built)
        monkeypatch.setattr(versions, "version_of", lambda package: here.get(package) or versions.MISSING)
        monkeypatch.setattr(metadata, "requires", ALLOWED.get)
        return {check.name: check for check in checks.machine_checks()}

    return make


def failed(report):
    return {name: check.found for name, check in report.items() if not check.passed}


def test_a_card_with_all_it_needs_passes(place):
    report = place(torchvision="0.28.0")
    assert not failed(report)
    assert report["NVIDIA card and driver"].found == "torch is built for CUDA 13.0, the driver is for CUDA 13.0"


def test_a_cpu_needs_neither(place):
    report = place(card=False, driver=None, built=None, bitsandbytes=None)
    assert not failed(report) and "not needed" in report["bitsandbytes"].found


def test_a_driver_older_than_torch_s_cuda_fails(place):
    """torch then says that there is no GPU, and the paper's models would start on a CPU."""
    (found,) = failed(place(driver=(12, 8))).values()
    assert "CUDA 13.0" in found and "CUDA 12.8" in found
    assert not failed(place(driver=(12, 4), built=(12, 8)))


def test_a_cpu_build_of_torch_beside_a_card_fails(place):
    assert "built for the CPU" in failed(place(built=None))["NVIDIA card and driver"]


def test_a_driver_that_does_not_load_fails(place):
    assert "libcuda" in failed(place(driver=None))["NVIDIA card and driver"]


def test_a_card_without_bitsandbytes_fails(place):
    """Unsloth raises in from_pretrained then, for 16 bits too."""
    assert failed(place(bitsandbytes=None)).keys() == {"bitsandbytes"}
    assert "0.46.0" in failed(place(bitsandbytes="0.46.0"))["bitsandbytes"]


def test_a_torchvision_of_another_torch_fails(place):
    report = place(torchvision="0.26.0", torch="2.11.0")
    assert failed(report) == {"torchvision": "UnfitError: torchvision 0.26.0 is for torch ==2.13.0. Got torch 2.11.0"}


def test_a_hidden_card_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CARD_FILES", (str(tmp_path),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.has_card()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not machine.has_card()


def test_torch_s_build_is_read_from_its_own_files():
    torch = pytest.importorskip("torch")
    cuda = torch.version.cuda
    assert machine.torch_cuda() == (tuple(map(int, cuda.split(".")[:2])) if cuda else None)


def test_the_checks_import_neither_torch_nor_unsloth():
    """They would raise, and notebook 00 show a traceback in place of what to do."""
    code = "import sys; from sa_ah_lib.report import checks; list(checks.machine_checks()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sa_ah_lib.upstream.machine" in loaded and not {"torch", "unsloth"} & set(loaded)


def test_a_mistyped_scale_is_a_failed_check(monkeypatch):
    """Notebook 00 showed a traceback, of all notebooks."""
    monkeypatch.setattr(checks, "_import", lambda: "imported")
    report = checks.check_environment(scale="micro-leg")
    assert report[-1].name == "SCALE" and not report.passed and "micro-legs" in report.failures


def test_an_import_that_raises_is_a_failed_check_and_the_last(monkeypatch):
    """The old way ended in Unsloth's traceback before the first line."""

    def broken():
        raise ImportError("torchvision==0.24.0 is too old")

    monkeypatch.setattr(checks, "_import", broken)
    report = checks.check_environment()
    assert report[-1].name == "import of unsloth" and not report.passed
    assert "torchvision==0.24.0" in str(report) and "what fails above" in str(report)
