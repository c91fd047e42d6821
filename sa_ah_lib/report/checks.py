"""Notebook 00's checks: everything the workflow relies on, each PASS or FAIL with its remedy."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sa_ah_lib.analysis.table import html_table
from sa_ah_lib.config import preset
from sa_ah_lib.train import data, disk
from sa_ah_lib.train.scales import resolve_scale
from sa_ah_lib.upstream import machine, versions


@dataclass(frozen=True)
class Check:
    """One checked fact; ``remedy`` says what to do where it failed."""

    name: str
    passed: bool
    found: str
    remedy: str


class Report(list[Check]):
    """Checks in order, shown as a table; ``passed`` is whether all did."""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self)

    @property
    def failures(self) -> str:
        """One line per check that failed, with what to do."""
        return "\n".join(f"{check.name}: {check.found}  -> {check.remedy}" for check in self if not check.passed)

    def _repr_html_(self):
        rows = [["PASS" if c.passed else "FAIL", c.name, c.found, "" if c.passed else c.remedy] for c in self]
        return str(html_table(["", "check", "found", "what to do"], rows))

    def __str__(self):
        return "\n".join(
            f"{'PASS' if c.passed else 'FAIL'}  {c.name}: {c.found}" + ("" if c.passed else f"  -> {c.remedy}")
            for c in self
        )


def check_environment(runs_dir: str | Path = "runs", scale: str = "auto", data_dir: str | Path | None = None) -> Report:
    """Run every check for one scale; none raises.

    Args:
        runs_dir: where runs will be written. scale, data_dir: as in the notebooks.
    """
    report = Report([*machine_checks(), *version_checks()])
    report.append(_attempt("import of unsloth", _import, "mend what fails above; then restart the kernel"))
    if not report[-1].passed:
        return report
    report.append(_attempt("SCALE", lambda: resolve_scale(scale), "set SCALE to one of those above"))
    if not report[-1].passed:
        return report
    # After Unsloth, because it patches what these import.
    from sa_ah_lib.train import models, training

    config = training.configure(scale, "sa-ah-grpo", data_dir=data_dir)
    report.append(_attempt("the trainer's methods", _probe, "reinstall the tested versions above"))
    report.append(
        _attempt("device", models.device_name, "a CUDA build of torch uses the GPU; on a CPU use SCALE='micro-s'")
    )
    report.append(
        _attempt("problems", lambda: _problems(config, data_dir), "set DATA to a GSM8K directory, or SCALE='micro-s'")
    )
    report.append(_attempt("model", lambda: _model(config), "go online once, or set SCALE to 'micro-s' or 'smollm2'"))
    report.append(
        _attempt("runs directory", lambda: _disk(runs_dir), "set RUNS to a writable directory with 2 GB free")
    )
    report.append(
        _attempt(
            "the weights' hook in the loss",
            _train_two_steps,
            "reinstall the tested versions above; the hook must be called",
        )
    )
    return report


def machine_checks() -> Iterator[Check]:
    """What must fit before Unsloth can be imported, one check each; imports neither torch nor Unsloth."""
    torch = "update the driver, or install torch's build for it (pytorch.org/get-started)"
    yield _attempt("NVIDIA card and driver", machine.card, torch)
    yield _attempt("torchvision", machine.torchvision, "pip uninstall torchvision: text models need none")
    yield _attempt("bitsandbytes", machine.bitsandbytes, "pip install -c requirements-tested.txt bitsandbytes")


def _attempt(name, action, remedy):
    try:
        return Check(name, True, str(action()), remedy)
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}", remedy)


def version_checks(found: dict[str, str] | None = None) -> Iterator[Check]:
    """One check a package, and one of the set they make, against ``versions.SETS``.

    Any set that was run and held passes. A set that was never run, or that failed, is compared with the pinned one.
    Another torch that Unsloth allows passes too, and is named: a hosted machine brings its own.

    Args:
        found: {package: version} of ``versions.PACKAGES``; the installed ones by default.
    """
    found = versions.installed() if found is None else found
    allowed = versions.asked("unsloth", of="torch").contains(found["torch"])
    known = versions.known_set(found)
    if known is None and allowed:
        known = versions.known_set({**found, "torch": versions.PINNED.torch})
    held = known if known and known.holds else versions.PINNED
    for package, wanted in held.versions.items():
        passed = found[package] == wanted or (package == "torch" and allowed)
        yield Check(package, passed, found[package], f"pip install {package}=={wanted}")
    for package, wanted in versions.COMPANIONS.items():
        here = versions.version_of(package)
        yield Check(package, here == wanted, here, f"pip install {package}=={wanted}")
    story = f"run on {known.date} ({known.ran}): {known.found}" if known else "never run by this project"
    if known and known.torch != found["torch"]:
        story = f"torch {found['torch']} never run here, the checks below try it; with torch {known.torch} {story}"
    yield Check("the set of versions", held is known, story, f"install the pinned set: {versions.PINNED}")


def _import():
    from sa_ah_lib.train import models

    return models.unsloth.__version__


def _probe():
    from sa_ah_lib.trainer import sa_ah_trainer_class
    from sa_ah_lib.upstream import hooks

    made = sa_ah_trainer_class()
    way = "all probes passed" if vars(made)["entrance"] == hooks.ENTRANCES[0] else "token weights enter as advantages"
    return f"{made.__mro__[3].__name__}: {len(hooks.PROBES)} looked at, {way}"


def _problems(config, data_dir):
    splits = data.load(config, data_dir)
    return f"{splits.source}: {len(splits.train)} train, {len(splits.evaluation)} evaluation, {splits.sha256[:12]}"


def _model(config):
    """The model that ``models.load`` would take: a directory, or a hub id that is cached or can be fetched."""
    from sa_ah_lib.train import models

    path = models.model_path(config.model, config.warm_start)
    if Path(path).is_dir():
        return Path(path).name
    if models.cached(path):
        return f"{path}, in the cache"
    from huggingface_hub import model_info

    model_info(path)
    return f"{path}, on the hub"


def _disk(runs_dir):
    disk.check_writable(runs_dir)
    free = shutil.disk_usage(runs_dir).free
    if free < 2e9:
        raise OSError(f"{free / 1e9:.1f} GB free")
    return f"{free / 1e9:.0f} GB free"


def _train_two_steps():
    from sa_ah_lib.train import training

    tiny = {"steps": 2, "eval_examples": 4, "train_examples": 16, "max_completion_tokens": 16, "eval_every": 2}
    with tempfile.TemporaryDirectory() as directory:
        run = training.run(preset("micro-s", "sa-ah-grpo", **tiny), directory, progress=False)
    weights = [row["sa_ah/weight"] for row in run.train]
    if len(weights) != 2 or not all(0 < weight <= 1 for weight in weights):
        raise RuntimeError(f"expected two mean weights in (0, 1]. Got {weights}")
    return f"called at every step; mean weights {weights[0]:.3f} and {weights[1]:.3f}"
