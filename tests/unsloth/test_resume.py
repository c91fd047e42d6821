"""Runs killed with SIGKILL and started again: the logs of an unbroken run, no line lost or doubled."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
import zipfile
from pathlib import Path

import pytest

from sa_ah_lib.config import preset
from sa_ah_lib.train import resume, runlog

TESTS = Path(__file__).parents[1]
TIMING = ("step_time", "train_runtime")
# Two steps a pass over the prompts, so that every resumed run is in a later pass than its first.
SMALL = {
    "dataset": "chain_sum", "eval_examples": 5, "train_examples": 8, "prompts_per_step": 4, "num_generations": 4,
    "gradient_accumulation_steps": 2, "max_completion_tokens": 8, "eval_every": 2, "save_every": 3, "steps": 7,
    "learning_rate": 1e-2, "lora_dropout": 0.2, "reward_threshold": 0.0,
}  # fmt: skip
# Name: the places where its sessions are killed, and the step after which its last session goes on.
KILLS = {
    "unbroken": ([], 0),
    "before the first checkpoint": ([["train", 2, 0]], 0),
    "between checkpoints, inside a line": ([["train", 5, 0]], 3),
    "in the evaluation after a checkpoint": ([["eval", 4, 2]], 3),
    "while a checkpoint is written": ([["checkpoint", 6, 0]], 3),
    "between training and its end mark": ([["finish", 7, 0]], 7),
    "twice": ([["eval", 4, 2], ["train", 7, 0]], 6),
}


# --- in the child: sessions of a run, each in a fork that is killed for good ------------------------------------------


def serve(directory, model):
    """Run every case of ``KILLS``. Unsloth and torch are imported once and no session sees another's state."""
    from sa_ah_lib.train import training

    config = preset("micro-s", "sa-ah-grpo", model=model, **SMALL)
    for name, (places, _) in KILLS.items():
        for place in [*places, None]:
            child = os.fork()
            if child == 0:
                session(training, config, Path(directory) / name, place)
            _, status = os.waitpid(child, 0)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            if killed != (place is not None) or (not killed and status):
                sys.exit(f"{name}: the session to be killed at {place} ended with {status}")


def session(training, config, runs, place):
    runs.mkdir(exist_ok=True)
    with open(runs / "printed.txt", "a") as printed, contextlib.redirect_stdout(printed):
        try:
            if place:
                arm(*place)
            training.run(config, runs, progress=False)
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
    os._exit(code)


def arm(where, step, rows):
    """SIGKILL this process at the train line of ``step``, half of it written; after ``rows`` evaluated problems of it;
    at half of the last file of its checkpoint; or after the last step."""
    from transformers import TrainerState

    write, left = runlog.RunLog.write, [rows]

    def kill(path=None, text=""):
        if path:
            with open(path, "a") as file:
                file.write(text[: len(text) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def writing(log, name, row):
        if name == where and row["step"] == step:
            if not left[0]:
                kill(log.directory / f"{name}.jsonl", json.dumps(row))
            left[0] -= 1
        write(log, name, row)

    save = TrainerState.save_to_json

    def saving(state, path):
        save(state, path) if state.global_step != step else kill(path, json.dumps(vars(state), default=str))

    runlog.RunLog.write = writing
    if where == "checkpoint":
        TrainerState.save_to_json = saving
    if where == "finish":
        runlog.RunLog.finish = lambda *arguments: kill()


# --- in the test -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny_model_dir):
    """{name of a case: the directory that its last session finished}."""
    pytest.importorskip("unsloth")
    directory = tmp_path_factory.mktemp("killed")
    # One thread: a fork inherits no thread pool.
    path = os.pathsep.join(map(str, (Path(__file__).parent, TESTS, TESTS.parent)))
    child = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", "import sys, test_resume; test_resume.serve(*sys.argv[1:])", directory, tiny_model_dir],
        cwd=directory, env=child, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (run_id,) = {path.name for path in directory.glob("*/*") if runlog.is_finished(path)}
    return {name: directory / name / run_id for name in KILLS}


def lines(directory, name):
    rows = runlog.read_jsonl(directory / f"{name}.jsonl")
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


BROKEN = [name for name in KILLS if name != "unbroken"]


@pytest.mark.parametrize("case", BROKEN)
def test_a_killed_run_gives_the_logs_of_an_unbroken_one(killed, case):
    """A policy, optimizer, random state, prompt order or counter that is not restored changes some later number."""
    for log in runlog.LOGS:
        assert lines(killed[case], log) == lines(killed["unbroken"], log)
    assert [row["step"] for row in lines(killed[case], "train")] == list(range(1, 8))


@pytest.mark.parametrize("case", BROKEN)
def test_a_killed_run_ends_with_the_same_adapter(killed, case):
    """Logs say little of the last update."""
    weights = [killed[name] / "adapter" / "adapter_model.safetensors" for name in (case, "unbroken")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("case", BROKEN)
def test_a_killed_run_went_on_from_the_checkpoint_it_had(killed, case):
    """Everything above would hold, too, if each run began anew."""
    finished = json.loads((killed[case] / "finished.json").read_text())
    _, step = KILLS[case]
    assert finished["resumed_after"][-1:] == ([step] if step else [])
    assert len(list(killed[case].parent.glob("*.interrupted-*"))) == (0 if step else 1)


@pytest.mark.parametrize("case", BROKEN)
def test_no_line_of_a_killed_run_is_destroyed(killed, case):
    """What was cut off is measured work, and the only trace of what went wrong."""
    found = [line for path in killed[case].parent.glob("*/*.jsonl") for line in path.read_text().split("\n") if line]
    places, _ = KILLS[case]
    rows = [row for row in map(loaded, found) if row]
    assert len(found) - len(rows) == sum(where in runlog.LOGS for where, _, _ in places), "a torn line is a line"
    for where, step, written in places:
        again = [row for row in rows if row["step"] == step]
        evaluated, trained = sum("question" in row for row in again), sum("grad_norm" in row for row in again)
        assert evaluated == written + 5 if where == "eval" else trained == {"checkpoint": 2}.get(where, 1)


def loaded(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_the_two_sessions_of_a_run_are_on_record(killed):
    """A reader must see that a run was interrupted, and what ran then."""
    (session,) = runlog.read_run(killed["in the evaluation after a checkpoint"]).environment["resumed"]
    assert session["step"] == 3 and session["discarded"] == {"eval": 2 + 1, "completions": 4} and session["started"]
    printed = (killed["before the first checkpoint"].parent / "printed.txt").read_text()
    assert "set aside as" in printed and "no checkpoint yet, one is written every 3 steps" in printed
    printed = (killed["while a checkpoint is written"].parent / "printed.txt").read_text()
    assert "goes on after step 3" in printed


# --- which checkpoint is usable --------------------------------------------------------------------------------------

CONFIG = preset("micro-s", "sa-ah-grpo", steps=6, eval_every=2, save_every=2, eval_examples=2)
ENVIRONMENT = {
    "python": "3.11.9", "device": "cpu", "packages": {"trl": "1.15.0"}, "data": {"sha256": "x"}, "processes": 1,
    "git": "a", "threads": 2,
}  # fmt: skip


@pytest.fixture
def unfinished(tmp_path):
    """A run killed after step 5, with checkpoints 2 and 4."""
    directory = tmp_path / CONFIG.run_id
    log = runlog.RunLog(directory, CONFIG, ENVIRONMENT)
    for step in range(6):
        for problem in range(2) if step % 2 == 0 else ():
            log.write("eval", {"step": step, "problem": problem, "correct": True})
        if step:
            log.write("train", {"step": step, "reward": 1.0})
        if step == 1 or step and step % 2 == 0:
            log.write("completions", {"step": step})
    log.close()
    for step in (2, 4):
        checkpoint = directory / "checkpoints" / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        for name in (*resume.FILES, "rng_state.pth"):
            write_part(checkpoint / name, step)
    return directory


def write_part(path, step):
    """A file of a checkpoint, of the kind that its name says."""
    if path.suffix == ".json":
        path.write_text(json.dumps({"global_step": step}))
    elif path.suffix == ".safetensors":
        header = json.dumps({"lora": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("data.pkl", "state")


def usable(directory, config=CONFIG, **changes):
    checkpoint, reason = resume.find(directory, config, {**ENVIRONMENT, **changes})
    return resume.step_of(checkpoint), reason


def test_the_newest_checkpoint_is_used(unfinished):
    """Work done twice, or checkpoint-10 taken for older than checkpoint-9."""
    assert usable(unfinished) == (4, "")
    old = unfinished / "checkpoints" / "checkpoint-4"
    (old / "trainer_state.json").write_text('{"global_step": 10}')
    assert usable(unfinished)[0] == 2


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("lost", [1, 12])
def test_a_checkpoint_whose_file_lost_its_end_is_passed_over(unfinished, name, lost):
    """A machine that lost power: torch could not read it at any later start, and the older checkpoint was not tried."""
    path = unfinished / "checkpoints" / "checkpoint-4" / name
    path.write_bytes(path.read_bytes()[:-lost])
    assert usable(unfinished) == (2, f"checkpoint-4: {name} is torn, its end was never written")


@pytest.mark.parametrize("name", [*resume.FILES, "rng_state.pth"])
def test_a_checkpoint_without_one_of_its_files_is_passed_over(unfinished, name):
    """A session killed, or a drive cut off, while it was written; torch would fail to read it, or go on without."""
    (unfinished / "checkpoints" / "checkpoint-4" / name).write_bytes(b"")
    assert usable(unfinished)[0] == 2
    (unfinished / "checkpoints" / "checkpoint-4" / name).unlink()
    assert usable(unfinished) == (2, f"checkpoint-4: {name} is missing, it was being written")
    (unfinished / "checkpoints" / "checkpoint-2" / name).unlink()
    assert usable(unfinished)[0] == 0


def test_on_a_card_with_float16_the_loss_scale_belongs_to_a_checkpoint(unfinished):
    """Without it the scale began anew, and steps were skipped; half of it could not be read at any later start."""
    assert "checkpoint-4: scaler.pt is missing" in usable(unfinished, precision="float16")[1]
    path = unfinished / "checkpoints" / "checkpoint-2" / "scaler.pt"
    shutil.copy(path.with_name("rng_state.pth"), path)
    assert usable(unfinished, precision="float16")[0] == 2
    path.write_bytes(path.read_bytes()[:-1])
    assert usable(unfinished, precision="float16")[0] == 0


def test_a_newer_checkpoint_that_is_not_used_does_not_stay(unfinished):
    """Half overwritten by a session that was killed there again, it had the new adapter and the old optimizer."""
    (unfinished / "checkpoints" / "checkpoint-4" / "optimizer.pt").unlink()
    checkpoint, _ = resume.prepare(unfinished, CONFIG, ENVIRONMENT)
    assert checkpoint == unfinished / "checkpoints" / "checkpoint-2"
    assert [path.name for path in (unfinished / "checkpoints").iterdir()] == ["checkpoint-2"]


@pytest.mark.parametrize("log,step", [("train", 3), ("eval", 4), ("completions", 4), ("eval", 0)])
def test_a_checkpoint_beyond_the_logs_is_passed_over(unfinished, log, step):
    """A mounted drive may keep a checkpoint and lose the lines before it: the run would have a hole."""
    path = unfinished / f"{log}.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in runlog.read_jsonl(path) if r["step"] != step))
    found, reason = usable(unfinished)
    assert found == (2 if step else 0) and f"checkpoint-4: {log}.jsonl" in reason


@pytest.mark.parametrize(
    "changes,reason",
    [
        ({"packages": {"trl": "1.16.0"}}, r"another packages trl \(1.15.0, now 1.16.0\)"),
        ({"data": {"source": "b", "sha256": "y"}}, r"another data \(unnamed data, sha256 x; now b, sha256 y\)"),
        ({"device": "Tesla T4"}, r"another device \(cpu, now Tesla T4\)"),
        ({"processes": 2}, r"another processes \(1, now 2\)"),
    ],
)
def test_another_environment_starts_anew_and_says_why(unfinished, capsys, changes, reason):
    """One run id over two versions or data sets would be a result of neither."""
    assert resume.prepare(unfinished, CONFIG, {**ENVIRONMENT, **changes}) == (None, {**ENVIRONMENT, **changes})
    import re

    assert re.search(reason, capsys.readouterr().out)
    assert not unfinished.exists()
    aside = unfinished.with_name(f"{unfinished.name}.interrupted-1")
    assert len(runlog.read_run(aside).train) == 5 and (aside / "checkpoints" / "checkpoint-4").is_dir()


def test_the_same_data_under_another_name_go_on(unfinished):
    """A directory that was moved, or GSM8K from the hub in its place, must not cost hours of training."""
    assert usable(unfinished, data={"source": "elsewhere", "sha256": "x"}) == (4, "")


def test_another_commit_or_thread_count_is_recorded_only(unfinished):
    """A new commit of the notebooks must not cost hours of training."""
    checkpoint, environment = resume.prepare(unfinished, CONFIG, {**ENVIRONMENT, "git": "b", "threads": 1})
    assert resume.step_of(checkpoint) == 4 and environment["git"] == "a"
    assert environment["resumed"] == [{"step": 4, "discarded": {"train": 1}, "git": "b", "threads": 1}]


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_an_unreadable_directory_starts_anew(unfinished, name):
    """A file torn by a full disk must not stop the notebook for good."""
    (unfinished / name).write_text('{"half')
    assert usable(unfinished)[0] == 0 and "cannot be read" in usable(unfinished)[1]


def test_another_configuration_under_the_same_name_starts_anew(unfinished):
    """A default that changed between versions changes the run, not its id."""
    assert usable(unfinished, CONFIG.replace(learning_rate=1.0)) == (0, "its configuration differs")


# --- the policy of a checkpoint --------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_adapter_is_refused(tmp_path):
    """Tensors passed over in silence would resume with an untrained policy."""
    pytest.importorskip("peft")
    import safetensors.torch
    import tiny

    from sa_ah_lib.train.restore import load_policy

    saved, fresh = (tiny.with_lora(tiny.model(), seed) for seed in (1, 2))
    saved.save_pretrained(tmp_path)
    load_policy(fresh, tmp_path)
    assert all(a.equal(b) for a, b in zip(saved.parameters(), fresh.parameters(), strict=True))
    weights = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    first = next(iter(weights))
    for changed in ({"stranger" if k == first else k: v for k, v in weights.items()},
                    {k: v for k, v in weights.items() if k != first}):  # fmt: skip
        safetensors.torch.save_file(changed, tmp_path / "adapter_model.safetensors")
        with pytest.raises(RuntimeError, match="must hold the adapter's 12 tensors"):
            load_policy(fresh, tmp_path)
