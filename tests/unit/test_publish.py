"""Archives of runs: what goes in comes out, the same bytes twice, and the reader finds them."""

import json
import shutil

import pytest

pytest.importorskip("scipy")
from families import PROBLEMS, write_run

from sa_ah_lib.analysis import loading
from sa_ah_lib.config import preset
from sa_ah_lib.train import publish
from sa_ah_lib.train.runlog import read_run, write_json

CONFIGS = [
    preset("micro-s", method, seed=seed, steps=30, eval_examples=PROBLEMS)
    for seed in (1, 2)
    for method in ("grpo", "sa-ah-grpo")
]


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path / "runs", config) for config in CONFIGS]


def test_packed_runs_are_read_where_the_archive_lies(runs, tmp_path):
    """A reader who must unpack by hand sees an empty comparison."""
    (path,) = publish.archive([run.directory for run in runs], tmp_path / "packed")
    assert path.name == "micro-s-30steps.tar.xz"
    plain, packed = loading.load(tmp_path / "runs"), loading.load(tmp_path / "packed")
    assert packed.messages == [] and len(packed.results) == 4
    for one, other in zip(plain.results, packed.results, strict=True):
        assert (one.config, one.train, one.eval, one.pass_at_1) == (
            other.config, other.train, other.eval, other.pass_at_1
        )  # fmt: skip
    assert len(loading.load(tmp_path / "packed").results) == 4, "read twice in one process"


def test_the_same_runs_give_the_same_bytes_and_more_runs_are_added(runs, tmp_path):
    """A second `make publish`, on a machine that has the new runs alone, must not lose the first ones."""
    directories = [run.directory for run in runs]
    (whole,) = publish.archive(directories, tmp_path / "whole")
    (parts,) = publish.archive(directories[:1], tmp_path / "parts")
    assert publish.archive(directories[1:], tmp_path / "parts") == [parts]
    assert parts.read_bytes() == whole.read_bytes()


def test_a_run_trained_again_to_be_sampled_keeps_its_first_logs(runs, tmp_path):
    """Else its date and commit would be those of the repetition, after everything that was said of the run."""
    first, second = runs[0].directory, runs[1].directory
    publish.archive([first, second], tmp_path / "packed")
    line = json.dumps({"problem": 0, "n": 16, "correct": 3, "problems": 1, "temperature": 1.0}) + "\n"
    for directory in (first, second):
        (directory / "samples.jsonl").write_text(line)
        write_json(directory / "environment.json", {"git": "later"})
    text = (second / "eval.jsonl").read_text()
    (second / "eval.jsonl").write_text(text.replace('"completion": "4"', '"completion": "5"', 1))
    publish.archive([first, second], tmp_path / "packed")
    found = {run.config: run for run in loading.load(tmp_path / "packed").results}
    kept, replaced = found[runs[0].config], found[runs[1].config]
    assert len(kept.samples) == len(replaced.samples) == 1
    assert kept.environment == runs[0].environment and replaced.environment == {"git": "later"}


def test_samples_of_other_answers_do_not_stay_beside_a_run(runs, tmp_path):
    """Pass@16 of the weights before stood beside Pass@1 of those after; and the archive of before was read."""
    directory = runs[0].directory
    line = json.dumps({"problem": 0, "n": 16, "correct": 3, "problems": 1, "temperature": 1.0}) + "\n"
    (directory / "samples.jsonl").write_text(line)
    publish.archive([directory], tmp_path / "packed")
    (packed,) = loading.load(tmp_path / "packed").results
    assert len(packed.samples) == 1
    (directory / "samples.jsonl").unlink()
    text = (directory / "eval.jsonl").read_text()
    (directory / "eval.jsonl").write_text(text.replace('"completion": "4"', '"completion": "5"', 1))
    publish.archive([directory], tmp_path / "packed")
    (packed,) = loading.load(tmp_path / "packed").results
    assert packed.samples == [] and packed.eval[0]["completion"] == "5"


def test_each_scale_and_length_has_an_archive_and_zero_shot_none(runs, tmp_path):
    other = [write_run(tmp_path / "runs", preset(s, "grpo", steps=n)) for s, n in (("micro-l", 30), ("micro-s", 6))]
    other.append(write_run(tmp_path / "runs", preset("micro-s", "zero-shot")))
    made = publish.archive([run.directory for run in [*runs, *other]], tmp_path / "packed")
    assert [path.name for path in made] == [f"{name}.tar.xz" for name in ("micro-l-30steps", "micro-s-30steps",
                                                                         "micro-s-6steps")]  # fmt: skip


def test_the_command_finds_finished_runs_and_no_adapters(runs, tmp_path, capsys):
    """An adapter has a config.json too; a checkpoint's would be a run without an end."""
    shutil.copytree(runs[0].directory, runs[0].directory / "checkpoints" / "checkpoint-15")
    (runs[0].directory / "checkpoints" / "checkpoint-15" / "finished.json").unlink()
    write_run(tmp_path / "runs", CONFIGS[0].replace(seed=9), finish=False)
    publish.main([str(tmp_path / "runs"), "--out", str(tmp_path / "packed")])
    said = capsys.readouterr().out
    assert "micro-s-30steps.tar.xz: 0." in said and "in all 0." in said
    assert {run.config.seed for run in loading.load(tmp_path / "packed").results} == {1, 2}
    with pytest.raises(SystemExit):
        publish.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "packed")])


def test_a_run_of_an_own_rule_does_not_stop_the_others(runs, tmp_path, capsys):
    """`make enter` leaves runs of a rule that only its file knows; beside one, nothing was packed."""
    own = shutil.copytree(runs[0].directory, tmp_path / "runs" / "enter" / "mine")
    config = json.loads((own / "config.json").read_text())
    write_json(own / "config.json", {**config, "rule": "mine"})
    publish.main([str(tmp_path / "runs"), "--out", str(tmp_path / "packed")])
    said = capsys.readouterr()
    assert "rule must be one of" in said.err and str(own) in said.err
    assert len(loading.load(tmp_path / "packed").results) == 4


def test_a_file_that_is_no_archive_costs_nothing_but_a_message(runs, tmp_path):
    """A half-downloaded archive, or the pointer of a large-file store, in place of logs."""
    (tmp_path / "runs" / "torn.tar.xz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    found = loading.load(tmp_path / "runs")
    assert len(found.results) == 4
    assert len(found.messages) == 1 and "expected an archive that `make publish` wrote. Got" in found.messages[0]


def test_an_unfinished_run_is_not_packed(tmp_path):
    directory = write_run(tmp_path / "runs", CONFIGS[0], finish=False).directory
    assert not read_run(directory).finished
    with pytest.raises(ValueError, match="only a finished run is published"):
        publish.archive([directory], tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())
