"""The files of a run: nothing finished is lost, nothing torn is believed, nothing mixes."""

import gzip
import json
import math
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from processes import until

from sa_ah_lib.config import preset
from sa_ah_lib.train import publish, runlog

CONFIG = preset("micro-s", "sa-ah-grpo")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / CONFIG.run_id


def evaluation(step, answers):
    return [{"step": step, "problem": i, "correct": right} for i, right in enumerate(answers)]


def write_run(directory, train=(), evals=(), completions=(), finish=True, environment=None):
    """A run directory written through RunLog, as training writes it."""
    log = runlog.RunLog(directory, CONFIG, environment or {"device": "cpu"})
    for name, rows in (("train", train), ("eval", evals), ("completions", completions)):
        for row in rows:
            log.write(name, row)
    if finish:
        log.finish({"seconds": 1.0})
    else:
        log.close()
    return directory


def test_a_run_is_read_back_as_written(directory):
    """The same keys go from the trainer to the figure; none may be lost or renamed on the way."""
    rows = {"train": [{"step": 1, "reward": 2.5}, {"step": 2, "reward": 3.0}], "evals": evaluation(0, [True, False]),
            "completions": [{"step": 1, "tokens": ["a\u2028b", "\r\n", "é"], "completion": "two\nlines"}]}  # fmt: skip
    run = runlog.read_run(write_run(directory, **rows, environment={"device": "cpu", "data": {"sha256": "x"}}))
    assert (run.train, run.eval, run.completions) == (rows["train"], rows["evals"], rows["completions"])
    assert run.config == CONFIG and run.finished and run.directory == directory
    assert run.environment == {"device": "cpu", "data": {"sha256": "x"}}


def test_every_line_is_on_disk_before_close(directory):
    """A crash must not take lines that were written before it."""
    log = runlog.RunLog(directory, CONFIG, {})
    for step in (1, 2, 3):
        log.write("train", {"step": step})
        assert [row["step"] for row in runlog.read_jsonl(directory / "train.jsonl")] == list(range(1, step + 1))
    assert not runlog.is_finished(directory) and not runlog.read_run(directory).finished
    log.close()


def test_numbers_that_json_lacks_become_null(directory):
    """NaN in a line is no JSON: other readers would refuse the whole file."""
    row = {"step": 1, "kl": float("nan"), "nested": {"a": [math.inf, 1.0], "b": (-math.inf,)}, "flag": True}
    write_run(directory, train=[row])
    line = (directory / "train.jsonl").read_text()
    strict = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} was written"))
    assert strict == {"step": 1, "kl": None, "nested": {"a": [None, 1.0], "b": [None]}, "flag": True}


def test_a_torn_last_line_is_dropped_with_a_warning(directory):
    """After a power cut the finished lines count, and the reader is told about the lost one."""
    write_run(directory, train=[{"step": 1}, {"step": 2}], finish=False)
    with open(directory / "train.jsonl", "ab") as file:
        file.write('{"step": 3, "text": "é'.encode()[:-1])  # torn inside a character
    with pytest.warns(UserWarning, match=r"train\.jsonl, line 3: torn last line dropped"):
        run = runlog.read_run(directory)
    assert [row["step"] for row in run.train] == [1, 2]


def test_whole_files_are_read_without_a_warning(directory, recwarn):
    """A warning at every healthy run would teach readers to overlook it."""
    runlog.read_run(write_run(directory, train=[{"step": 1}]))
    assert not recwarn.list


@pytest.mark.parametrize("broken", ['{"step": 2, "rew', "", "17", "[]", "null"])
def test_a_broken_line_in_the_middle_is_an_error(directory, broken):
    """Lines lost inside a file would shift a curve in silence."""
    write_run(directory, train=[{"step": 1}], finish=False)
    with open(directory / "train.jsonl", "a") as file:
        file.write(broken + '\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"train\.jsonl, line 2: expected a JSON object"):
        runlog.read_run(directory)


def test_a_directory_without_config_is_no_run(tmp_path):
    """A wrong path must be named, not read as a run without lines."""
    with pytest.raises(FileNotFoundError, match="expected a run directory with config.json. Got .*nowhere"):
        runlog.read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", '{"flux": 1}', '{"alpha": "high"}', "[1]"])
def test_a_bad_configuration_names_its_file(directory, text):
    """Among a hundred runs, 'unknown flux' alone does not say where."""
    directory.mkdir()
    (directory / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: "):
        runlog.read_run(directory)


def test_missing_logs_are_empty_ones(directory):
    """A published zero-shot run has no rollouts, and is a run all the same."""
    directory.mkdir()
    CONFIG.to_json(directory / "config.json")
    run = runlog.read_run(directory)
    assert (run.train, run.eval, run.completions, run.environment, run.finished) == ([], [], [], {}, False)


def test_pass_at_1_counts_problems_by_step(directory):
    """The headline number: right answers over all problems, checkpoints in order whatever the file's order."""
    rows = evaluation(30, [True, True, False]) + evaluation(0, [False, True, False])
    run = runlog.read_run(write_run(directory, evals=rows))
    assert list(run.evaluations.items()) == [(0, (1, 3)), (30, (2, 3))] and run.pass_at_1 == {30: (2, 3)}


def test_a_curve_skips_the_rows_that_lack_its_key(directory):
    """A null (NaN) drawn as 0 would look like a collapse."""
    train = [{"step": 1, "kl": 0.0}, {"step": 2}, {"step": 3, "kl": float("nan")}, {"step": 4, "kl": 0.2}]
    run = runlog.read_run(write_run(directory, train=train))
    assert [values.tolist() for values in run.curve("kl")] == [[1, 4], [0.0, 0.2]]
    assert [values.tolist() for values in run.curve("absent")] == [[], []]


def test_set_aside_numbers_every_attempt(directory):
    """A second crash must not overwrite the first one's logs."""
    for k in (1, 2, 3):
        write_run(directory, train=[{"step": k}], finish=False)
        target = runlog.set_aside(directory)
        assert target.name == f"{CONFIG.run_id}.interrupted-{k}" and not directory.exists()
    kept = [runlog.read_run(f"{directory}.interrupted-{k}").train for k in (1, 2, 3)]
    assert kept == [[{"step": 1}], [{"step": 2}], [{"step": 3}]]


def test_a_step_evaluated_twice_after_a_crash_does_not_mix(directory):
    """Six rows for three problems would halve or double Pass@1's sample."""
    write_run(directory, evals=evaluation(0, [True, True, True]), finish=False)
    runlog.set_aside(directory)
    write_run(directory, evals=evaluation(0, [False, True, False]))
    assert runlog.read_run(directory).evaluations == {0: (1, 3)}


def test_only_finish_marks_a_run(directory):
    """A run that stopped half-way must not be read as complete the next time."""
    write_run(directory, finish=False)
    assert not runlog.is_finished(directory)
    runlog.set_aside(directory)
    assert runlog.is_finished(write_run(directory))
    assert json.loads((directory / "finished.json").read_text()) == {"seconds": 1.0}


def test_cut_back_moves_late_lines_and_a_torn_one_aside(directory):
    """A resumed run writes these steps again; the lines of the first try are kept, beside the log."""
    write_run(directory, train=[{"step": s, "text": "é\u2028"} for s in (1, 2, 3)], evals=evaluation(0, [True]),
              finish=False)  # fmt: skip
    before = (directory / "train.jsonl").read_text().splitlines(keepends=True)
    with open(directory / "train.jsonl", "a") as file:
        file.write('{"step": 4, "tex')
    assert runlog.cut_back(directory, 1) == {"train": 3}
    assert [row["step"] for row in runlog.read_jsonl(directory / "train.jsonl")] == [1]
    aside = (directory / "train.discarded-1.jsonl").read_text()
    assert aside.split("\n")[:2] == ["".join(before).split("\n")[1], "".join(before).split("\n")[2]]
    assert aside.endswith('{"step": 4, "tex\n') and len(runlog.read_jsonl(directory / "eval.jsonl")) == 1
    assert runlog.cut_back(directory, 1) == {}


def test_a_second_cut_does_not_overwrite_the_first(directory):
    """Two interruptions would else leave the lines of one."""
    for k in (1, 2):
        write_run(directory, train=[{"step": 5, "try": k}], evals=evaluation(9 if k == 2 else 0, [True]), finish=False)
        runlog.cut_back(directory, 4)
    kept = [json.loads((directory / f"train.discarded-{k}.jsonl").read_text())["try"] for k in (1, 2)]
    assert kept == [1, 2] and (directory / "eval.discarded-2.jsonl").is_file()
    assert len(runlog.read_run(directory).eval) == 1


def test_a_kill_during_a_cut_loses_no_line(directory, monkeypatch):
    """The log is shortened only after the lines are safe elsewhere."""
    write_run(directory, train=[{"step": 1}, {"step": 2}], finish=False)
    done, replace = [], runlog.os.replace

    def killed(source, target):
        if done:
            raise KeyboardInterrupt
        done.append(replace(source, target))

    monkeypatch.setattr(runlog.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        runlog.cut_back(directory, 1)
    assert [row["step"] for row in runlog.read_jsonl(directory / "train.jsonl")] == [1, 2]
    assert json.loads((directory / "train.discarded-1.jsonl").read_text()) == {"step": 2}


def test_lines_go_on_after_a_sync(directory):
    """Every checkpoint closes and opens the logs; a line after it must not be refused or start the file anew."""
    log = runlog.RunLog(directory, CONFIG, {})
    for step in (1, 2):
        log.write("train", {"step": step})
        log.sync()
    log.finish({})
    assert [row["step"] for row in runlog.read_run(directory).train] == [1, 2]


def completions(*steps):
    return [{"step": step, "advantage": float(i), "tokens": ["é"]} for i, step in enumerate(steps)]


@pytest.mark.parametrize("steps,kept", [
    ((1, 1, 15, 15, 30, 30), [0, 1, 4, 5]), ((1, 1), [0, 1]), ((1, 30), [0, 1]), ((), []), ((30, 1, 15), [0, 1]),
])  # fmt: skip
def test_publish_copies_the_logs_and_the_first_and_last_samples(directory, tmp_path, steps, kept):
    """The published logs must redraw every picture, the schematic's pair included, without megabytes of rollouts or
    an adapter; a zero-shot run has no rollouts."""
    rows = {"train": [{"step": 1}], "evals": evaluation(0, [True]), "completions": completions(*steps)}
    write_run(directory, **rows)
    (directory / "adapter").mkdir()
    (directory / "adapter" / "weights.safetensors").write_bytes(b"0")
    target = publish.publish(directory, tmp_path / "logs")
    assert target == tmp_path / "logs" / CONFIG.run_id
    run, source = runlog.read_run(target), runlog.read_run(directory)
    assert (run.config, run.environment, run.train, run.eval) == (
        source.config, source.environment, source.train, source.eval)  # fmt: skip
    assert run.finished and [row["advantage"] for row in run.completions] == kept
    names = {"config.json", "environment.json", "finished.json", *(f"{name}.jsonl" for name in runlog.LOGS)}
    assert {path.name for path in target.iterdir()} == names


def test_publishing_twice_gives_the_same_files(directory, tmp_path):
    """A second `publish` after a second demo must not append to the first."""
    write_run(directory, completions=completions(1, 15, 30))
    first = {p.name: p.read_bytes() for p in publish.publish(directory, tmp_path / "logs").iterdir()}
    assert {p.name: p.read_bytes() for p in publish.publish(directory, tmp_path / "logs").iterdir()} == first


def test_an_unfinished_run_is_not_published(directory, tmp_path):
    """Half a curve in the repository would be read as the whole."""
    write_run(directory, finish=False)
    with pytest.raises(ValueError, match="only a finished run is published.*no finished.json"):
        publish.publish(directory, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_the_environment_says_what_a_number_hangs_on():
    """A result whose versions, device or commit are unknown cannot be repeated."""
    found = runlog.environment("cpu", threads=1, data={"sha256": "x"})
    assert set(found) == {"python", "platform", "device", "packages", "git", "threads", "data"}
    assert found["python"] == platform.python_version() and found["device"] == "cpu" and found["threads"] == 1
    assert set(found["packages"]) == set(runlog.PACKAGES)
    assert {"unsloth", "trl", "torch", "transformers", "peft"} <= set(found["packages"])
    for name, version in found["packages"].items():
        assert version == (metadata.version(name) if version else None)
    json.dumps(found, allow_nan=False)
    # There kernels of these decide numbers, too.
    assert set(runlog.environment("a card")["packages"]) == {
        *runlog.PACKAGES,
        "bitsandbytes",
        "triton",
        *runlog.ON_A_CARD,
    }


def test_what_is_not_installed_is_null(monkeypatch):
    """On a laptop without torch or git the figures' environment must still be written."""
    monkeypatch.setattr(runlog, "PACKAGES", ("surely-not-a-package",))
    monkeypatch.setenv("PATH", "")
    found = runlog.environment()
    assert found["packages"] == {"surely-not-a-package": None} and found["git"] is None


def test_logs_are_read_without_torch(directory):
    """A laptop that only redraws figures has no torch."""
    write_run(directory, train=[{"step": 1}])
    script = ("import sys; sys.modules.update(torch=None, trl=None, unsloth=None)\n"
              "from sa_ah_lib.train import runlog; print(runlog.read_run(sys.argv[1]).train)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script, directory], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[{'step': 1}]", done.stderr


def test_packed_logs_are_read_as_plain_ones(directory, tmp_path):
    """Some published runs have their JSON lines gzipped."""
    train, evals = [{"step": 1, "text": "é"}], evaluation(0, [True, False])
    write_run(directory, train=train, evals=evals, completions=completions(1, 2))
    plain = runlog.read_run(publish.publish(directory, tmp_path / "plain"))
    for path in plain.directory.glob("*.jsonl"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = runlog.read_run(plain.directory)
    assert len(plain.eval) == 2 and not (plain.directory / "eval.jsonl").exists()
    assert (packed.train, packed.eval, packed.completions) == (plain.train, plain.eval, plain.completions)
    again = runlog.read_run(publish.publish(packed.directory, tmp_path / "again"))
    assert again.eval == plain.eval and (again.directory / "eval.jsonl").exists()


def test_every_line_is_on_the_disk_before_the_mark_of_the_end(tmp_path, monkeypatch):
    """A finished run is never looked at again, so lines that a power failure took would be missing for good."""
    log, synced, real = runlog.RunLog(tmp_path / "run", CONFIG, {}), [], os.fsync
    numbers = {file.fileno() for file in log._files.values()}
    log.write("eval", evaluation(180, [True])[0])

    def fsync(number):
        synced.append((number, (tmp_path / "run" / "finished.json").exists()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    log.finish({"seconds": 1.0})
    assert {number for number, _ in synced[:3]} == numbers
    assert len(synced) == 4 and not any(finished for _, finished in synced)
    assert runlog.is_finished(tmp_path / "run") and len(runlog.read_run(tmp_path / "run").eval) == 1


def test_files_are_found_while_others_come_and_go(tmp_path):
    """A notebook that read RUNS beside another one ended when that one removed a checkpoint."""
    kept = tmp_path / "run" / "kept.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    churn = (
        "import os, sys\nwhile True:\n    os.makedirs(sys.argv[1] + '/a/b')\n    os.removedirs(sys.argv[1] + '/a/b')\n"
    )
    other = subprocess.Popen([sys.executable, "-c", churn, str(tmp_path / "run" / "checkpoint")])
    try:
        until((tmp_path / "run" / "checkpoint").exists, other)
        assert all(runlog.below(tmp_path, "*.json") == [kept] for _ in range(2000))
    finally:
        other.kill()
        other.wait()
