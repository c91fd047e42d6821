"""Sweeps over tiny notebooks that wait and crash, or are killed, and write what happened into a ledger."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("papermill")
pytest.importorskip("ipykernel")
pytest.importorskip("rich")
filelock = pytest.importorskip("filelock")
yaml = pytest.importorskip("yaml")

from processes import gone, until

from sa_ah_lib.sweep import engine
from sa_ah_lib.sweep.__main__ import main
from sa_ah_lib.sweep.cell import LOCK_SECONDS
from sa_ah_lib.sweep.grid import read_cells
from sa_ah_lib.sweep.table import standing
from sa_ah_lib.train import runlog

ROOT = Path(__file__).parents[2]
PARAMETERS = 'SEED = 1\nMODE = "ok"\nRUNS = ""\nALPHAS = [0.5]\nOVERRIDES = {}'
LOG = """
import os, time
from pathlib import Path
runs = Path(RUNS)
def log(word):
    with open(runs / "ledger", "a") as file:
        share = f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.environ.get('OMP_NUM_THREADS')}"
        file.write(f"{word} {MODE} {SEED} {os.getpid()} {share}\\n")
def wait_for(name):
    for _ in range(1200):
        if (runs / name).exists():
            return
        time.sleep(0.1)
    raise TimeoutError(name)
log("start")
"""
RUN = """
run = runs / f"run-{SEED}"
run.mkdir(exist_ok=True)
(run / "config.json").write_text("{}")
(run / "finished.json").write_text("{}")
print(f"{run.name}/config.json")
"""


def notebook(path, body=""):
    """A notebook of four cells with the ids parameters, log, body and run."""
    cells = []
    for name, source in {"parameters": PARAMETERS, "log": LOG, "body": body, "run": RUN + 'log("end")'}.items():
        cells.append(nbformat.v4.new_code_cell(source.strip(), id=name))
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def write(tmp_path):
    """Writes tiny.ipynb with ``body`` and a grid file of ``keys``; returns the grid file."""

    def write(body="", **keys):
        notebook(tmp_path / "tiny.ipynb", body)
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({"notebook": "tiny.ipynb", **keys}, sort_keys=False))
        return path

    return write


def ledger(runs, word):
    """[(mode, seed, pid, GPU, threads)] of the lines that begin with ``word``, as text."""
    path = runs / "ledger"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(line.split()[1:]) for line in lines if line.startswith(word)]


def seeds(runs, word):
    return sorted(int(line[1]) for line in ledger(runs, word))


@pytest.fixture(scope="module")
def cluster():
    """The address of a Ray cluster of one machine with four cores and, so it is told, two GPUs."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Ray gives its workers a low priority, on which the tests would wait.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("OMP_NUM_THREADS", raising=False)
        size = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": engine.OBJECT_STORE}
        for attempt in range(3):
            try:
                made = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
                break
            except Exception:
                # Ray gives its first process 30 s, which is too short on a crowded machine.
                if attempt == 2:
                    raise
        yield made.address
        made.shutdown()


@pytest.fixture
def run(cluster, runs):
    """Sweeps a grid file on the cluster, in this process; returns the exit code."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda grid: main([str(grid), "--runs", str(runs), "--address", cluster])
    signal.signal(signal.SIGTERM, before)


def start(grid, runs, *more):
    """A sweep in a process of its own."""
    command = [sys.executable, "-m", "sa_ah_lib.sweep", str(grid), "--runs", str(runs), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


# --- the grid file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys, expected",
    [
        ({"notebook": "09_none"}, "04_sa_ah_grpo"),
        ({"notebook": "missing.ipynb"}, "missing.ipynb"),
        ({"notebook": []}, "notebook"),
        ({"grids": {"SEED": [1]}}, r"'grids'"),
        ({"fixed": ["SEED"]}, "fixed must be a mapping"),
        ({"fixed": {"SEDE": 1}}, r"'SEDE'; allowed are \['ALPHAS', 'MODE', 'OVERRIDES', 'SEED'\]"),
        ({"grid": {"SEED": 1}}, "grid.SEED must be a list"),
        ({"grid": {"SEED": []}}, "grid.SEED must be a list"),
        ({"grid": {"ALPHAS": [0.0, 0.5]}}, "ALPHAS must be a list"),
        ({"fixed": {"SEED": "one"}}, "SEED must be a number"),
        ({"fixed": {"SEED": True}}, "SEED must be a number"),
        ({"fixed": {"OVERRIDES": {"alhpa": 1.0}}}, r"'alhpa'.*'alpha'"),
        ({"fixed": {"OVERRIDES": {"learning_rate": "5e-6"}}}, "5.0e-6"),
        ({"fixed": {"RUNS": "elsewhere"}}, "--runs"),
        ({"fixed": {"SEED": 1}, "grid": {"SEED": [2]}}, r"\['SEED'\] under both"),
        ({"grid": {"SEED": [2, 2]}}, "twice: tiny SEED=2"),
        ({"notebook": ["tiny.ipynb", "tiny.ipynb"]}, "twice: tiny"),
    ],
)
def test_a_bad_grid_says_what_is_wrong(write, runs, keys, expected):
    """A mistyped name would be met after hours, or never: papermill only warns of a parameter that no cell has."""
    with pytest.raises(ValueError, match=expected):
        read_cells(write(**keys), runs)


def test_a_grid_that_cannot_be_read_ends_with_one_line(tmp_path, capsys):
    """A traceback would hide which file is meant."""
    (tmp_path / "grid.yaml").write_text("notebook: [")
    for path in (tmp_path / "grid.yaml", tmp_path / "none.yaml"):
        assert main([str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_cells_are_every_combination_and_said_defaults_change_nothing(write, runs):
    """Two names for one cell would run it twice."""
    grid = {"fixed": {"MODE": "ok"}, "grid": {"SEED": [1, 2], "OVERRIDES": [{}, {"alpha": 0.25}]}}
    cells = read_cells(write(**grid), runs)
    made = [(cell.parameters["SEED"], cell.parameters["OVERRIDES"]) for cell in cells]
    assert made == [(1, {}), (1, {"alpha": 0.25}), (2, {}), (2, {"alpha": 0.25})]
    assert len({cell.id for cell in cells}) == 4
    (default,) = read_cells(write(), runs)
    assert default.id == cells[0].id


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_fit_the_notebooks(path, runs):
    """An example that names a parameter of last month fails the first reader who tries it."""
    assert read_cells(path, runs)


def test_a_dry_run_only_tells(write, runs, capsys):
    """Someone who asks what would happen must not start it."""
    assert main([str(write(grid={"SEED": [1, 2]})), "--runs", str(runs), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to run") == 3
    assert not list(runs.iterdir())


def test_needs_no_torch():
    """The process that waits for GPUs must hold none of their memory, and start at once on a login node."""
    parts = "__main__", "engine", "table", "grid", "cell"
    probe = "; ".join(f"import sa_ah_lib.sweep.{part}" for part in parts)
    probe += "; import sys; assert not {'torch', 'papermill', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", ["ray", "rich"])
def test_without_its_packages_a_sweep_says_what_to_install(write, runs, package, capsys, monkeypatch):
    """They are no part of the usual installation; a traceback would not tell that."""
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main([str(write()), "--runs", str(runs)]) == 2
    assert package in (said := capsys.readouterr().err) and "pip install -e '.[sweep]'" in said


# --- one cell, without Ray -------------------------------------------------------------------------------------------


def test_one_cell_by_its_number(write, runs, capsys, monkeypatch):
    """An array job of Slurm runs a cell per task, on nodes where nobody started Ray."""
    monkeypatch.setitem(sys.modules, "ray", None)
    command = [str(write(grid={"SEED": [1, 2]})), "--runs", str(runs), "--cell"]
    assert main([*command, "1"]) == 0
    assert seeds(runs, "end") == [2]
    assert main([*command, "1"]) == 0
    assert seeds(runs, "end") == [2] and "1 skipped" in capsys.readouterr().out
    assert main([*command, "2"]) == 2
    assert "--cell must be in 0 to 1" in capsys.readouterr().err


def test_a_notebook_whose_run_is_unfinished_is_not_finished(write, runs, capsys):
    """A notebook that swallows an interrupted training would count as a result."""
    body = 'write = Path.write_text\nPath.write_text = lambda path, text: path.stem == "finished" or write(path, text)'
    assert main([str(write(body)), "--runs", str(runs), "--cell", "0"]) == 1
    assert "no finished.json: ['run-1']" in capsys.readouterr().out


@pytest.mark.parametrize("torn", ["", '{"cells": [{"cell_type": "co', "{}"])
def test_a_torn_notebook_does_not_end_the_sweep(write, runs, torn):
    """Papermill saves in place: killed while it does, it left a file that failed every later attempt."""
    (cell,) = read_cells(write("pass"), runs)
    cell.path("").parent.mkdir(parents=True, exist_ok=True)
    runlog.write_json(cell.path(".json"), {"state": "running"})
    cell.path(".partial.ipynb").write_text(torn)
    cell.fail("the process was killed")
    assert cell.record()["state"] == "failed" and cell.failures()[-1]["error"] == "the process was killed"


# --- on Ray ----------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_skipped_and_what_was_deleted_is_made_again(write, runs, run, capsys):
    """A sweep that starts over loses days; one that trusts a deleted run reports results that are not there."""
    # Both at once, or neither ends: two trainings on one GPU run out of memory, all cores for each make both slow.
    path = write('(runs / f"began-{SEED}").touch()\nwait_for(f"began-{3 - SEED}")', grid={"SEED": [1, 2]})
    assert run(path) == 0
    assert sorted(line[3:] for line in ledger(runs, "start")) == [("0", "2"), ("1", "2")]
    assert seeds(runs, "start") == seeds(runs, "end") == [1, 2]
    first, second = read_cells(path, runs)
    assert nbformat.read(first.path(".ipynb"), as_version=4).cells[-1].outputs and first.record()["runs"] == ["run-1"]
    assert not first.path(".partial.ipynb").exists()
    (runs / "run-1" / "finished.json").unlink()
    main([str(path), "--runs", str(runs), "--dry-run"])
    assert "deleted" in capsys.readouterr().out
    assert main([str(path), "--runs", str(runs), "--cell", "0"]) == 0
    assert seeds(runs, "end") == [1, 1, 2]
    assert first.is_finished() and second.is_finished()
    second.path(".ipynb").unlink()
    assert not second.is_finished()


CRASHES = """
import signal
if MODE == "raise":
    raise ZeroDivisionError("by nothing")
if MODE == "kernel" and not (runs / MODE).exists():
    (runs / MODE).touch()
    os.kill(os.getpid(), signal.SIGKILL)
if MODE == "worker":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
"""


def test_crashes_are_tried_once_more_reported_and_reach_no_other_cell(write, runs, run, capsys):
    """One cell out of memory must not end a night's sweep, nor go unreported, nor be tried for ever."""
    modes = ["raise", "kernel", "worker", "ok"]
    path = write(CRASHES, grid={"MODE": modes})
    assert run(path) == 1
    cells = dict(zip(modes, read_cells(path, runs), strict=True))
    started = [line[0] for line in ledger(runs, "start")]
    assert [started.count(mode) for mode in modes] == [2, 2, 2, 1]
    assert [cells[mode].is_finished() for mode in modes] == [False, True, False, True]
    lines = capsys.readouterr().out.splitlines()
    for mode, error, times in (
        ("raise", "ZeroDivisionError: by nothing", 2), ("kernel", "DeadKernelError", 1),
        # Nobody is left to write the second one down but the sweep.
        ("worker", "the process was killed", 1), ("worker", "WorkerCrashedError", 1),
    ):  # fmt: skip
        said = [i for i, line in enumerate(lines) if line.startswith(f"{cells[mode].id} (") and error in line]
        assert len(said) == times
        assert lines[said[0] + 1] == "  in cell body: import signal"
    output = next(line.split(": ")[1] for line in lines if line.startswith("  output so far: "))
    assert "ZeroDivisionError" in Path(output).read_text()
    assert standing(cells["raise"]) == "to run, failed before"


def test_the_cell_of_a_killed_worker_is_started_again(write, runs, cluster):
    """A lost node must cost its own cell's time alone."""
    path = write("if SEED == 1:\n    wait_for('go')", grid={"SEED": [1, 2, 3]})
    process = start(path, runs, "--address", cluster)
    until(lambda: seeds(runs, "end") == [2, 3] and seeds(runs, "start") == [1, 2, 3], process)
    first = read_cells(path, runs)[0]
    assert standing(first).startswith("running, since")
    os.kill(first.record()["pid"], signal.SIGKILL)
    until(lambda: seeds(runs, "start") == [1, 1, 2, 3], process)
    (runs / "go").touch()
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert f"{first.id} (SEED=1), attempt 1: the process was killed\n  in cell body: if SEED == 1:" in said
    assert seeds(runs, "end") == [1, 2, 3]


def test_a_cell_that_another_sweep_has_is_waited_for(write, runs, cluster):
    """Two people, or an array task started twice: a cell run by both would mix its logs."""
    path = write(grid={"SEED": [1, 2]})
    first = read_cells(path, runs)[0]
    first.path("").parent.mkdir()
    with filelock.FileLock(first.path(".lock")):
        process = start(path, runs, "--address", cluster)
        until(lambda: seeds(runs, "end") == [2], process)
        # Long enough for the sweep to be told that the first is busy.
        time.sleep(LOCK_SECONDS + 1)
        assert process.poll() is None and seeds(runs, "start") == [2]
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert seeds(runs, "start") == seeds(runs, "end") == [1, 2]


def test_a_killed_sweep_leaves_no_process_and_goes_on_where_it_was(write, runs, run):
    """An orphaned kernel would go on writing into the run that the next sweep resumes."""
    pytest.importorskip("ray")
    path = write('if SEED == 2:\n    wait_for("go")', grid={"SEED": [1, 2]})
    process = start(path, runs, "--address", "local", "--workers", "2")
    finished, interrupted = read_cells(path, runs)
    # The notebook's last line comes before its cell is written down as finished.
    until(lambda: seeds(runs, "start") == [1, 2] and finished.is_finished(), process)
    process.kill()
    process.wait()
    until(lambda: all(gone(line[2]) for line in ledger(runs, "start")) and not interrupted.is_locked())
    assert standing(interrupted) == "to run, interrupted"
    (runs / "go").touch()
    assert run(path) == 0
    assert (seeds(runs, "start"), seeds(runs, "end")) == ([1, 2, 2], [1, 2])


@pytest.mark.parametrize("how", ["cell", "address"])
def test_a_stopped_sweep_ends_its_cells_and_says_how_to_go_on(write, runs, cluster, how):
    """Slurm and Ctrl-C stop a sweep every day: its cells must not stay on the GPU, nor be tried again."""
    process = start(write('wait_for("never")'), runs, f"--{how}", {"cell": "0", "address": cluster}[how])
    until(lambda: seeds(runs, "start") == [1], process)
    process.terminate()
    said = process.communicate()[0]
    assert process.returncode == 130 and "the same command goes on" in said, said
    until(lambda: gone(ledger(runs, "start")[0][2]))
    assert seeds(runs, "start") == [1]


@pytest.mark.parametrize(
    "machines, workers, expected",
    [
        ([{"CPU": 2}], None, (2, 0)),
        ([{"CPU": 16}], None, (4, 0)),
        ([{"CPU": 16}], 2, (8, 0)),
        ([{"CPU": 12, "GPU": 2}], None, (6, 1)),
        ([{"CPU": 12, "GPU": 2}], 1, (12, 1)),
        # The head of a cluster often has no GPU, or lends no cores.
        ([{"CPU": 2}, {"CPU": 12, "GPU": 2}, {"CPU": 8, "GPU": 4}], None, (4, 1)),
        ([{}, {"CPU": 8}], None, (4, 0)),
    ],
)
def test_a_cell_gets_a_gpu_of_its_own_and_its_share_of_the_cores(machines, workers, expected):
    """What asks for more than any machine has would wait for ever."""
    assert tuple(engine._share(machines, workers).values()) == expected


@pytest.mark.parametrize("machine, workers", [({"CPU": 2}, 3), ({"CPU": 8, "GPU": 2}, 3), ({"CPU": 2}, 0)])
def test_more_workers_than_the_machine_has_room_for_are_an_error(machine, workers):
    """Ray would wait for the missing GPU without a word."""
    with pytest.raises(ValueError, match=f"--workers must be in 1 to 2, .* Got {workers}"):
        engine._share([machine], workers)


# --- a real notebook -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_notebook_trains_once(tmp_path, runs, capsys):
    """The sweep must find the run directories of the notebooks that it is for."""
    pytest.importorskip("unsloth")
    smoke = {"eval_examples": 8, "train_examples": 16, "prompts_per_step": 2, "eval_every": 2}
    grid = {"notebook": "02_grpo", "fixed": {"SCALE": "micro-s", "STEPS": 2, "OVERRIDES": smoke}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    assert main([str(tmp_path / "grid.yaml"), "--runs", str(runs), "--cell", "0"]) == 0
    assert "attempt" not in capsys.readouterr().out
    (cell,) = read_cells(tmp_path / "grid.yaml", runs)
    (run,) = cell.record()["runs"]
    assert (runs / run / "finished.json").is_file() and "-2steps-" in run
    assert cell.is_finished()
