"""Sweeps over tiny notebooks that wait, crash and kill themselves, and write what happened into a ledger."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("papermill")
pytest.importorskip("ipykernel")
pytest.importorskip("filelock")
pytest.importorskip("rich")
yaml = pytest.importorskip("yaml")

from sa_ah_lib import sweep, sweep_backends, sweep_cell
from sa_ah_lib.sweep_cell import Outcome
from sa_ah_lib.sweep_grid import expand, read_grid

ROOT = Path(__file__).parents[2]
PARAMETERS = 'SEED = 1\nMODE = "ok"\nRUNS = ""\nALPHAS = [0.5]\nOVERRIDES = {}'
LOG = """
import os, time
from pathlib import Path
runs = Path(RUNS)
def log(word):
    with open(runs / "ledger", "a") as file:
        file.write(f"{word} {MODE} {SEED} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\\n")
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
    """[(mode, seed, pid, threads)] of the lines that begin with ``word``, as text."""
    path = runs / "ledger"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(line.split()[1:]) for line in lines if line.startswith(word)]


def seeds(runs, word):
    return sorted(int(line[1]) for line in ledger(runs, word))


def start(grid, runs, *more):
    """A sweep in a process of its own."""
    command = [sys.executable, "-m", "sa_ah_lib.sweep", str(grid), "--runs", str(runs), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def until(condition):
    """Wait for what must come; only a hang ends the wait early, as a failure."""
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited four minutes in vain")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


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
        expand(read_grid(write(**keys)), runs)


def test_a_grid_that_cannot_be_read_ends_with_one_line(tmp_path, capsys):
    """A traceback would hide which file is meant."""
    (tmp_path / "grid.yaml").write_text("notebook: [")
    for path in (tmp_path / "grid.yaml", tmp_path / "none.yaml"):
        assert sweep.main([str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_cells_are_every_combination_and_said_defaults_change_nothing(write, runs):
    """Two names for one cell would run it twice."""
    grid = {"fixed": {"MODE": "ok"}, "grid": {"SEED": [1, 2], "OVERRIDES": [{}, {"alpha": 0.25}]}}
    cells = expand(read_grid(write(**grid)), runs)
    made = [(cell.parameters["SEED"], cell.parameters["OVERRIDES"]) for cell in cells]
    assert made == [(1, {}), (1, {"alpha": 0.25}), (2, {}), (2, {"alpha": 0.25})]
    assert len({cell.id for cell in cells}) == 4
    (default,) = expand(read_grid(write()), runs)
    assert default.id == cells[0].id


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_fit_the_notebooks(path, runs):
    """An example that names a parameter of last month fails the first reader who tries it."""
    assert expand(read_grid(path), runs)


def test_a_dry_run_only_tells(write, runs, capsys):
    """Someone who asks what would happen must not start it."""
    assert sweep.main([str(write(grid={"SEED": [1, 2]})), "--runs", str(runs), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to run") == 3
    assert not list(runs.iterdir())


def test_needs_no_torch():
    """The process that waits for GPUs must hold none of their memory, and start at once on a login node."""
    probe = "import sys, sa_ah_lib.sweep, sa_ah_lib.sweep_cell; assert not {'torch', 'papermill'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True, cwd=ROOT)


# --- running ---------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_skipped_and_what_was_deleted_is_made_again(write, runs, capsys):
    """A sweep that starts over loses days; one that trusts a deleted run reports results that are not there."""
    command = [str(write(grid={"SEED": [1, 2]})), "--runs", str(runs)]
    assert sweep.main(command) == 0
    assert sweep.main(command) == 0
    assert seeds(runs, "start") == seeds(runs, "end") == [1, 2]
    first, second = expand(read_grid(command[0]), runs)
    assert nbformat.read(first.path(".ipynb"), as_version=4).cells[-1].outputs and first.record()["runs"] == ["run-1"]
    assert not first.path(".partial.ipynb").exists()
    (runs / "run-1" / "finished.json").unlink()
    sweep.main([*command, "--dry-run"])
    assert "deleted" in capsys.readouterr().out
    assert sweep.main([*command, "--only", first.id]) == 0
    assert seeds(runs, "end") == [1, 1, 2]
    assert first.is_finished() and second.is_finished()
    second.path(".ipynb").unlink()
    assert not second.is_finished()


def test_a_notebook_whose_run_is_unfinished_is_not_finished(write, runs, capsys, monkeypatch):
    """A notebook that swallows an interrupted training would count as a result."""
    monkeypatch.setattr(sweep_cell, "ATTEMPTS", 1)
    body = 'write = Path.write_text\nPath.write_text = lambda path, text: path.stem == "finished" or write(path, text)'
    assert sweep.main([str(write(body)), "--runs", str(runs)]) == 1
    assert "no finished.json: ['run-1']" in capsys.readouterr().out


CRASHES = """
import signal
first = not (runs / MODE).exists()
(runs / MODE).touch()
if MODE == "raise":
    raise ZeroDivisionError("by nothing")
if MODE == "kernel" and first:
    os.kill(os.getpid(), signal.SIGKILL)
if MODE == "process" and first:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
"""


def test_crashes_are_tried_once_more_reported_and_reach_no_other_cell(write, runs, capsys):
    """One cell out of memory must not end a night's sweep, nor go unreported, nor be tried for ever."""
    modes = ["raise", "kernel", "process", "ok"]
    path = write(CRASHES, grid={"MODE": modes})
    assert sweep.main([str(path), "--runs", str(runs)]) == 1
    cells = {cell.parameters["MODE"]: cell for cell in expand(read_grid(path), runs)}
    started = [line[0] for line in ledger(runs, "start")]
    assert {mode: started.count(mode) for mode in modes} == {"raise": 2, "kernel": 2, "process": 2, "ok": 1}
    assert {mode: cell.is_finished() for mode, cell in cells.items()} == {
        "raise": False, "kernel": True, "process": True, "ok": True,
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    for mode, error, times in (
        ("raise", "ZeroDivisionError: by nothing", 2), ("kernel", "DeadKernelError", 1), ("process", "by SIGKILL", 1),
    ):  # fmt: skip
        said = [i for i, line in enumerate(lines) if line.startswith(f"{cells[mode].id} (") and error in line]
        assert len(said) == times
        assert lines[said[0] + 1] == "  in cell body: import signal"
    output = next(line.split(": ")[1] for line in lines if line.startswith("  output so far: "))
    assert "ZeroDivisionError" in Path(output).read_text()
    assert sweep.plan(cells["raise"]) == "to run, failed before"


def test_a_killed_sweep_leaves_no_process_and_goes_on_where_it_was(write, runs):
    """An orphaned kernel would go on writing into the run that the next sweep resumes."""
    path = write('if SEED == 2:\n    wait_for("go")', grid={"SEED": [1, 2]})
    process = start(path, runs)
    until(lambda: seeds(runs, "start") == [1, 2])
    process.kill()
    process.wait()
    interrupted = expand(read_grid(path), runs)[1]
    until(lambda: not alive(ledger(runs, "start")[-1][2]) and not interrupted.is_locked())
    assert sweep.plan(interrupted) == "to run, interrupted"
    (runs / "go").touch()
    assert sweep.main([str(path), "--runs", str(runs)]) == 0
    assert (seeds(runs, "start"), seeds(runs, "end")) == ([1, 2, 2], [1, 2])


def test_a_stopped_sweep_ends_its_cells_and_says_how_to_go_on(write, runs):
    """Slurm and Ctrl-C stop a sweep every day: its cells must not stay on the GPU, nor be tried again."""
    process = start(write('wait_for("never")'), runs)
    until(lambda: seeds(runs, "start") == [1])
    process.terminate()
    said = process.communicate()[0]
    assert process.returncode == 130 and "the same command goes on" in said
    assert seeds(runs, "start") == [1] and not alive(ledger(runs, "start")[0][2])


def test_two_sweeps_share_the_cells_of_one_directory(write, runs):
    """Two people, or an array task started twice: a cell run by both would mix its logs, a wait would idle one."""
    # The first cell ends only after the second began, which the other sweep has to do.
    body = '(runs / f"began-{SEED}").touch()\nif SEED == 1:\n    wait_for("began-2")'
    path = write(body, grid={"SEED": [1, 2]})
    both = [start(path, runs, "--workers", "1") for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert seeds(runs, "start") == seeds(runs, "end") == [1, 2]


# --- where cells run -------------------------------------------------------------------------------------------------


def test_each_worker_has_a_gpu_of_its_own_and_its_share_of_the_cores(write, runs, monkeypatch):
    """Two trainings on one GPU run out of memory; all cores for each make every one slower."""
    used, seen, both = set(), [], threading.Barrier(2)

    def record(cell, environment, stop):
        gpu = environment["CUDA_VISIBLE_DEVICES"]
        assert gpu not in used
        used.add(gpu)
        both.wait(60)
        seen.append((gpu, environment["OMP_NUM_THREADS"]))
        used.remove(gpu)
        both.wait(60)
        return Outcome("finished")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    monkeypatch.setattr(sweep_backends, "_cores", lambda: 12)
    monkeypatch.setattr(sweep_backends, "run_cell", record)
    pool = sweep_backends.LocalPool()
    futures = [pool.submit(cell) for cell in expand(read_grid(write(grid={"SEED": [1, 2, 3, 4]})), runs)]
    assert [future.result(60).state for future in futures] == ["finished"] * 4
    pool.close()
    assert sorted(seen) == [("3", "6")] * 2 + [("GPU-5", "6")] * 2
    with pytest.raises(ValueError, match="1 to 2, the GPUs"):
        sweep_backends.LocalPool(workers=3)


def test_gpus_are_those_that_the_process_may_see(tmp_path, monkeypatch):
    """A sweep inside a job must not take the GPUs of the jobs beside it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert sweep_backends.visible_gpus() == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho GPU-a\necho GPU-b\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert sweep_backends.visible_gpus() == ["GPU-a", "GPU-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert sweep_backends.visible_gpus() == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sweep_backends.visible_gpus() == []
    monkeypatch.setattr(sweep_backends, "_cores", lambda: 2)
    with pytest.raises(ValueError, match="1 to 2, the cores"):
        sweep_backends.LocalPool(workers=3)


def test_the_slurm_script_runs_one_cell_a_task(write, runs, tmp_path, capsys, monkeypatch):
    """A script that nobody executed before a cluster is there fails on the cluster."""
    pytest.importorskip("submitit")
    path = write(grid={"SEED": [1, 2]}, slurm={"time": 30, "partition": "gpu"})
    command = [str(path), "--runs", str(runs), "--slurm"]
    assert sweep.main(command) == 0
    script = capsys.readouterr().out.split("sbatch ")[1].strip()
    text = Path(script).read_text()
    for line in ("--array=0-1%2", "--time=30", "--partition=gpu", "--gpus-per-node=1"):
        assert f"#SBATCH {line}" in text
    # srun as far as the script needs it: drop its own options, run the rest.
    srun = '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do [ "$1" = --unbuffered ] || shift; shift; done\nexec "$@"\n'
    (tmp_path / "srun").write_text(srun)
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    subprocess.run(["bash", script], check=True, env={**os.environ, "SLURM_ARRAY_TASK_ID": "1"})
    assert seeds(runs, "end") == [2]
    assert sweep.main(command) == 0
    assert "1 cells" in capsys.readouterr().out and "--array=0-0%1" in Path(script).read_text()
    for slurm, expected in (({}, "slurm.time"), ({"time": 5, "tiem": 5}, "'tiem'")):
        assert sweep.main([str(write(slurm=slurm)), *command[1:]]) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.slow
def test_ray_starts_the_cell_of_a_killed_worker_again(write, runs, monkeypatch):
    """A lost node must cost its own cell's time alone."""
    ray = pytest.importorskip("ray")
    body = "import psutil\nlog(f'worker-{psutil.Process().parent().parent().pid}')\nif SEED == 1:\n    wait_for('go')"
    path = write(body, grid={"SEED": [1, 2, 3]})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    address = ray.get_runtime_context().gcs_address
    try:
        process = start(path, runs, "--ray", address)
        until(lambda: seeds(runs, "end") == [2, 3] and seeds(runs, "worker") == [1, 2, 3])
        worker = next(line for line in (runs / "ledger").read_text().splitlines() if "worker" in line and " 1 " in line)
        os.kill(int(worker.split()[0].split("-")[1]), signal.SIGKILL)
        until(lambda: seeds(runs, "worker") == [1, 1, 2, 3])
        (runs / "go").touch()
        said = process.communicate()[0]
    finally:
        ray.shutdown()
    assert process.returncode == 0, said
    assert (seeds(runs, "start"), seeds(runs, "end")) == ([1, 1, 2, 3], [1, 2, 3])


# --- a real notebook -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_notebook_trains_once(tmp_path, runs, capsys):
    """The sweep must find the run directories of the notebooks that it is for."""
    pytest.importorskip("unsloth")
    smoke = {"eval_examples": 8, "train_examples": 16, "prompts_per_step": 2, "eval_every": 2}
    grid = {"notebook": "02_grpo", "fixed": {"SCALE": "micro-s", "STEPS": 2, "OVERRIDES": smoke}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    assert sweep.main([str(tmp_path / "grid.yaml"), "--runs", str(runs)]) == 0
    assert "attempt" not in capsys.readouterr().out
    (cell,) = expand(read_grid(tmp_path / "grid.yaml"), runs)
    (run,) = cell.record()["runs"]
    assert (runs / run / "finished.json").is_file() and "-2steps-" in run
    assert cell.is_finished()
