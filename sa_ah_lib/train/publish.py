"""Finished runs made small enough for a repository: logs without adapters, or one archive per comparison.

``python -m sa_ah_lib.train.publish RUNS... --out figures/logs/packed`` packs the finished runs below RUNS, those of one
scale and length together as ``SCALE-STEPSsteps.tar.xz``; ``analysis.loading.load`` reads them. Needs no torch.
"""

import argparse
import functools
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from sa_ah_lib.train.runlog import below, configuration, is_finished, read_run

ENDING = ".tar.xz"
LIMIT = 40
"""Megabytes that all archives together should stay below."""

_unpacked: list[tempfile.TemporaryDirectory] = []  # they go when the process does


def publish(directory: str | Path, target: str | Path) -> Path:
    """Copy a finished run's logs below ``target``: no adapter, only the first and the last sampled groups.

    Where the same run is there with the same answers, only its samples are written: trained again to be sampled, it
    keeps its first logs, with their date and commit.

    Raises:
        ValueError: the run is not finished.
    """
    run, target = read_run(directory), Path(target) / Path(directory).name
    if not run.finished:
        raise ValueError(f"only a finished run is published. {directory} has no finished.json; run it to its end.")
    target.mkdir(parents=True, exist_ok=True)
    answers, there, samples = _lines(run.eval), target / "eval.jsonl", target / "samples.jsonl"
    same = there.is_file() and there.read_bytes() == answers
    if not same:
        # Of the run that had this name before, whose answers were others.
        samples.unlink(missing_ok=True)
    if run.samples:
        samples.write_bytes(_lines(run.samples))
    if same:
        return target
    for name in ("config.json", "environment.json", "finished.json"):
        shutil.copyfile(run.directory / name, target / name)
    steps = [row["step"] for row in run.completions]
    kept = [row for row in run.completions if row["step"] in (min(steps), max(steps))]
    for name, lines in {"train": _lines(run.train), "eval": answers, "completions": _lines(kept)}.items():
        (target / f"{name}.jsonl").write_bytes(lines)
    return target


def _lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def archive(directories: Iterable[str | Path], target: str | Path) -> list[Path]:
    """Pack finished, trained runs, one archive per scale and length; the archives written.

    Runs that an archive of that name holds already are kept, unless the same run is among ``directories`` with other
    answers. Equal runs give equal bytes. Runs of a user's own rule are left out, and that is said.

    Args:
        directories: run directories. target: made if missing.
    """
    target, groups = Path(target), {}
    for directory in map(Path, directories):
        config = configuration(directory)
        if config and config.steps:
            groups.setdefault(f"{config.scale}-{config.steps}steps{ENDING}", []).append(directory)
    target.mkdir(parents=True, exist_ok=True)
    with tqdm(total=sum(map(len, groups.values())), unit="run", desc="packing") as bar:
        for name, members in sorted(groups.items()):
            with tempfile.TemporaryDirectory() as scratch:
                if (target / name).is_file():
                    _extract(target / name, scratch)
                for directory in members:
                    publish(directory, scratch)
                    bar.update()
                _write(Path(scratch), target / name)
    return [target / name for name in sorted(groups)]


def unpacked(path: Path) -> Path:
    """A directory of the runs in an archive that ``archive`` wrote; it goes when this process ends.

    Raises:
        ValueError: the file is no such archive.
    """
    try:
        state = path.stat()
        return _unpacked_as_of(path, state.st_mtime_ns, state.st_size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"expected an archive that `make publish` wrote. Got {path} ({error}).") from error


@functools.cache
def _unpacked_as_of(path, changed, size):
    _unpacked.append(tempfile.TemporaryDirectory(prefix="sa-ah-logs-"))
    _extract(path, _unpacked[-1].name)
    return Path(_unpacked[-1].name)


def _extract(path, directory):
    with tarfile.open(path, "r:xz") as file:
        file.extractall(directory, filter="data")


def _write(directory, target):
    """Every file below ``directory``, in order of its name, without dates and owners; whole or not at all."""
    partial = target.with_name(target.name + ".partial")
    with tarfile.open(partial, "w:xz", format=tarfile.PAX_FORMAT) as file:
        # One kind of log after another: what is alike lies together, and packs smaller.
        for path in sorted(directory.glob("*/*"), key=lambda path: (path.name, path.parent.name)):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(directory).as_posix())
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    partial.replace(target)


def main(arguments: list[str] | None = None) -> None:
    """Pack every finished run below some directories, and say how large the archives are."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.train.publish", description=main.__doc__)
    parser.add_argument("runs", nargs="+", help="directories that hold run directories")
    parser.add_argument("--out", default="figures/logs/packed", help="where the archives go (figures/logs/packed)")
    options = parser.parse_args(arguments)
    found = [path.parent for parent in options.runs for path in below(parent, "config.json")]
    # An adapter or a checkpoint has a config.json too, but no end.
    finished = [directory for directory in found if is_finished(directory)]
    if not finished:
        parser.error(f"no finished run below {options.runs}")
    for path in archive(finished, options.out):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    total = sum(path.stat().st_size for path in Path(options.out).glob(f"*{ENDING}")) / 1e6
    print(f"in all {total:.1f} MB" + (f", which is more than {LIMIT}" if total > LIMIT else ""))


if __name__ == "__main__":
    main()
