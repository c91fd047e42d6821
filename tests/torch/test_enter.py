"""A rule file before any training: what is wrong with it is said in one line, and every good rule passes."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch
from families import write_run

from sa_ah_lib import rulebook
from sa_ah_lib.config import preset
from sa_ah_lib.enter import __main__ as command
from sa_ah_lib.enter import limit, nearest, replay, rule_check, rule_file, runs
from sa_ah_lib.rules import RULES
from sa_ah_lib.train import logged
from sa_ah_lib.train.runlog import read_jsonl

LOGS = Path(__file__).parents[2] / "figures" / "logs"
REPLAYED = replay.groups(LOGS, 20, "micro-s")
INPUTS = '("entropy", "mask", "advantages")'
RECORD = 'Record("mine", "Mine", "someone", r"1 - H", {inputs}, {more})'
NO_FUNCTION = RECORD.format(inputs="()", more="'tokens'")
GOOD = "return 1 - batch.entropy"


@pytest.fixture(autouse=True)
def forgotten():
    """No rule of a test stays registered."""
    before = dict(RULES), dict(rulebook.RECORDS), dict(rule_file._LOADED)
    yield
    for registry, kept in zip((RULES, rulebook.RECORDS, rule_file._LOADED), before, strict=True):
        registry.clear()
        registry.update(kept)


@pytest.fixture(scope="module")
def batches():
    return [group.batch for group in REPLAYED]


@pytest.fixture
def written(tmp_path):
    """Writes a rule file: its body, and what else its record, signature and head say."""

    def write(body=GOOD, takes="batch", more='"tokens"', inputs=INPUTS, head="", name="my_rule.py"):
        record = RECORD.format(more=more, inputs=inputs)
        text = (
            f"import torch\nfrom sa_ah_lib.rules import Record, rule\n{head}\n\n@rule({record})\ndef mine({takes}):\n"
        )
        path = tmp_path / name
        path.write_text(text + "".join(f"    {line}\n" for line in body.splitlines()), encoding="utf-8")
        return path

    return write


# --- files that are not let in ----------------------------------------------------------------------------------------

UNREADABLE = {
    "no such file": (lambda write, tmp: tmp / "nowhere.py", "must be a Python file that is there"),
    "no Python": (lambda write, tmp: text(tmp / "rule.txt", "1"), "must be a Python file"),
    "a syntax error": (lambda write, tmp: text(tmp / "a.py", "\ndef f(:\n"), r"Got SyntaxError.*\(line 2\)"),
    "an import that fails": (lambda write, tmp: text(tmp / "a.py", "\nimport nowhere"), r"No module.*\(line 2\)"),
    "sys.exit": (lambda write, tmp: text(tmp / "a.py", "raise SystemExit(3)"), "importable. Got SystemExit"),
    "no rule": (lambda write, tmp: text(tmp / "a.py", "def mine(batch): return batch.entropy"), "one rule.*Got none"),
    "two rules": (
        lambda write, tmp: write(head='@rule(Record("b", "B", "x", "1", (), "tokens"))\ndef b(batch): return 1\n'),
        r"one rule, with @rule.*\['b', 'mine'\]",
    ),
    "another rule's name": (
        lambda write, tmp: changed(write(), '"mine", "Mine", "someone"', '"edge", "E", "2507.21848"'),
        "a name of its own. Got 'edge'",
    ),
    "another rule's name and source": (
        lambda write, tmp: changed(write(), '"mine"', '"edge"'),
        "there already, of 2507.21848",
    ),
    "an unknown input": (lambda write, tmp: write(inputs='("entropie",)'), r"must be among .*entropie"),
    "an unknown denominator": (lambda write, tmp: write(more='"token"'), "denominator in my_rule.py.*'token'"),
    "a whole number as default": (
        lambda write, tmp: write(takes="batch, k", more='"tokens", defaults={"k": 1}'), "write 1.0 for 1"
    ),
    "a default out of its range": (
        lambda write, tmp: write(takes="batch, k", more='"tokens", defaults={"k": 2.0}, ranges={"k": (0.0, 1.0)}'),
        "in the record's own ranges: k of rule 'mine'",
    ),
    "a range that is none": (
        lambda write, tmp: write(takes="batch, k", more='"tokens", defaults={"k": 2.0}, ranges={"k": (0.0,)}'),
        "a record that can be read. Got IndexError",
    ),
    "a scope without a strength": (
        lambda write, tmp: write(takes="batch, scope", more='"tokens", defaults={"scope": "negative"}'),
        "with a scope must have an alpha",
    ),
    "the label of a row": (
        lambda write, tmp: changed(write(), '"Mine"', '"GRPO"'), "a label of its own. Got 'GRPO'"
    ),
    "a parameter too few": (
        lambda write, tmp: write(more='"tokens", defaults={"k": 1.0}'), r"must take \(batch, k\).*Got \(batch\)"
    ),
    "a parameter too many": (lambda write, tmp: write(takes="batch, k"), r"must take \(batch\).*Got \(batch, k\)"),
    "no parameter": (lambda write, tmp: write(takes=""), r"must take \(batch\).*Got \(\)"),
    "no function": (
        lambda write, tmp: text(tmp / "a.py", f"from sa_ah_lib.rules import *\nrule({NO_FUNCTION})(3)"),
        "must decorate a function",
    ),
}  # fmt: skip


def changed(path, old, new):
    return text(path, path.read_text(encoding="utf-8").replace(old, new))


def text(path, content):
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_is_no_rule_is_refused_when_it_is_read(what, written, tmp_path):
    make, message = UNREADABLE[what]
    before = dict(RULES), dict(rulebook.RECORDS)
    with pytest.raises(rule_file.RuleFileError, match=message):
        rule_file.load(make(written, tmp_path))
    # A half-loaded rule would be found by the next command of a notebook.
    assert (dict(RULES), dict(rulebook.RECORDS)) == before


WRONG = {
    "wrong shape": ({"body": "return batch.entropy.mean(1)"}, r"of shape \(B, T\)"),
    "no tensor": ({"body": "return 1.0"}, r"of shape \(B, T\).*Got float"),
    "NaN": ({"body": "return batch.entropy / (batch.entropy * 0)"}, "must be finite"),
    "an infinite weight": ({"body": "return 1 / batch.entropy.where(batch.entropy > 1e-4, 0.0)"}, "must be finite"),
    "NaN only without entropy": (
        {"body": "return batch.entropy / batch.entropy.amax(1, keepdim=True)"}, "failed on rollouts without entropy"
    ),
    "NaN only on a rollout of one token": (
        {"body": "n = batch.lengths[:, None]\nreturn batch.entropy + (n - 1) / (n - 1)"}, "one of a single token"
    ),
    "a gradient": ({"body": "return torch.nn.Parameter(1 - batch.entropy)"}, "constants of the loss. Got a gradient"),
    "negative without saying so": ({"body": "return batch.entropy - 0.1"}, "not be negative unless its record says"),
    "an exception": ({"body": "x = 1\nreturn batch.entropie"}, r"AttributeError.*\(line \d+\)"),
    "an input that was not asked for": ({"body": "return batch.log_probs.exp()"}, "failed on replayed group 1"),
    "a batch that is written into": ({"body": "return 1 - batch.entropy.mul_(0.5)"}, "wrote into entropy"),
    "a draw from the global state": ({"body": "return torch.rand_like(batch.entropy)"}, "leave torch's random state"),
    "a seed for all": (
        {"body": "torch.manual_seed(0)\nreturn 1 + torch.rand_like(batch.entropy)"}, "leave torch's random state"
    ),
    "a memory": (
        {"head": "seen = []", "body": "seen.append(1)\nreturn batch.entropy + len(seen)"}, "equal weights for an equal"
    ),
    "an end": ({"body": "raise SystemExit(0)"}, "failed on replayed group 1: SystemExit"),
    "padding in a mean": ({"body": "return batch.entropy.mean(1)[:, None] + 0 * batch.mask"}, "depend on padding"),
    "a no-op": ({"body": "return torch.ones_like(batch.entropy)"}, "must change some gradient"),
    "a factor that cancels": ({"body": "return 0.5 * batch.mask.float()", "more": '"group"'}, "cancels in 'group'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_rule_that_would_spoil_a_run_is_refused_before_it(what, written, batches):
    """Each of these trains for minutes before it fails, or trains something else in silence."""
    given, message = WRONG[what]
    with pytest.raises(rule_file.RuleFileError, match=message):
        rule_check.check(rule_file.load(written(**given)), batches)


def test_a_rule_that_runs_on_and_on_is_stopped(written, batches, monkeypatch):
    """Nothing else would end it but the user, who sees no reason."""
    monkeypatch.setattr(rule_check, "LONGEST", 0.3)
    endless = rule_file.load(written(body="x = 1\nwhile True:\n    x += 1"))
    with pytest.raises(
        rule_file.RuleFileError, match=r"replayed group 1: TimeoutError: .* within 0.3 sec.* \(line \d+\)"
    ):
        rule_check.check(endless, batches)
    with pytest.raises(KeyboardInterrupt), limit.within(60.0):
        raise KeyboardInterrupt  # the user's own


def test_a_job_in_the_background_of_a_script_has_the_limit_too():
    """There Ctrl-C is ignored, and an endless rule ran on."""
    code = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom sa_ah_lib.enter import limit\n"
        "try:\n    with limit.within(0.2):\n        time.sleep(20)\nexcept TimeoutError:\n    print('stopped')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15)
    assert done.stdout == "stopped\n"


def test_there_is_no_limit_in_another_thread():
    """What would be stopped is the main one, which waits for it here."""
    ended = []

    def work():
        with limit.within(0.01):
            time.sleep(0.1)
            ended.append(True)

    other = threading.Thread(target=work)
    other.start()
    other.join()
    assert ended == [True]


def test_the_command_says_it_in_one_line_and_trains_nothing(written, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "train", lambda *_: pytest.fail("trained"))
    path = written("return batch.entropy - 0.1")
    assert command.main([str(path), "--logs", str(LOGS), "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("enter: rule 'mine' failed on replayed group 1") and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


# --- files that are ---------------------------------------------------------------------------------------------------


def test_a_signed_rule_may_be_negative(written, batches):
    rule = rule_file.load(written("return batch.entropy - 0.1", more='"tokens", signed=True'))
    assert rule_check.check(rule, batches).least < 0


def test_what_the_check_says_is_what_the_rule_did(written, batches):
    """Numbers in a message that nobody holds to anything."""
    found = rule_check.check(
        rule_file.load(written("return batch.mask * 0.5 + 0.25 * (batch.positions == 1)")), batches
    )
    tokens, rollouts = (sum(int(f(b)) for b in batches) for f in (lambda b: b.tokens.sum(), lambda b: len(b.mask)))
    assert (found.groups, found.least, found.largest, found.changed) == (len(batches), 0.5, 0.75, 1.0)
    assert found.mean == pytest.approx(0.5 + 0.25 * rollouts / tokens)
    half = rule_check.check(
        rule_file.load(written("return 1 - 0.5 * (batch.advantages[:, None] < 0) * batch.mask")), batches
    )
    failed = sum(int(b.tokens[b.advantages < 0].sum()) for b in batches)
    counted = sum(int(b.tokens[b.advantages != 0].sum()) for b in batches)
    assert half.changed == pytest.approx(failed / counted)


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("hicra", "clip_cov")])
def test_every_rule_of_the_registry_keeps_to_what_is_asked(name, batches):
    """HICRA's grams must be given; Clip-Cov's bounds reach no token of rollouts this short."""
    found = rule_check.check(RULES[name], batches)
    assert found.changed > 0
    # Quantiles over the micro-batch; another batch size is another rule.
    wide = {"forking_tokens", "forking_tokens_trl", "four_quadrants"}
    assert found.beside == (None if "seed" in RULES[name].record.inputs else name in wide)


def test_a_mean_over_the_batch_is_said(written, batches):
    """Every logged group is a batch of its own: a mean over the batch looks like one over the group."""
    mean = "n = batch.mask.sum()\nreturn batch.entropy * batch.mask / ((batch.entropy * batch.mask).sum() / n + 1)"
    found = rule_check.check(rule_file.load(written(mean)), batches)
    assert found.beside and "depend on the groups in its micro-batch" in str(found)
    assert not rule_check.check(rule_file.load(written()), batches).beside


def test_the_board_scales_rollouts_are_read_from_their_archive():
    found = replay.groups(LOGS, 8, "micro-legs")
    assert len(found) == 8 and {group.config.scale for group in found} == {"micro-legs"}
    assert {group.config.scale for group in replay.groups(LOGS, 8, "qwen2.5-3b")} >= {"micro-l", "micro-sum"}


def test_a_rule_is_nearest_to_its_own_row(written, batches):
    """The rows are weighed as they are trained: by their own divisor, strength and scope."""
    for name, label in (("edge", "EDGE"), ("gtpo", "GTPO (entropy)"), ("w_reinforce", "W-REINFORCE")):
        first, *others = nearest.nearest(RULES[name], batches)
        assert (first.label, first.overlap) == (label, pytest.approx(1)) and others[0].overlap < 1
    selective = nearest.nearest(RULES["cumulative"], batches, 40)
    assert (selective[0].label, selective[0].overlap) == ("SA-AH-GRPO", pytest.approx(1))
    labels = [near.label for near in selective]
    assert len(set(labels)) == len(labels) and not [label for label in labels if "×" in label or label == "TR-GRPO"]
    assert [near.overlap for near in selective] == sorted((near.overlap for near in selective), reverse=True)


def test_nearest_says_nothing_of_what_it_cannot_compare(written, batches):
    assert nearest.nearest(RULES["tr_grpo"], batches) == []
    signed = rule_file.load(written("return batch.entropy - 0.1", more='"tokens", signed=True'))
    assert nearest.nearest(signed, batches) == []


def test_a_file_that_is_loaded_again_replaces_its_rule(written):
    """In a notebook the second try of a rule is the usual one."""
    first, second = rule_file.load(written()), rule_file.load(written("return 2 - batch.entropy"))
    assert RULES["mine"] is second and first is not second
    with pytest.raises(rule_file.RuleFileError, match="a name of its own. Got 'mine'"):
        rule_file.load(written(name="other.py"))


def test_a_replayed_group_has_the_progress_that_it_was_trained_at():
    """Weights are made before their step is counted; a rule that reads the progress replayed with that of the next."""
    group = next(group for group in REPLAYED if group.step == 1)
    assert group.batch.progress == 0
    assert {round(g.batch.progress * g.config.steps) - g.step for g in REPLAYED} == {-1}


def test_logged_groups_are_what_was_trained_on():
    """Weights recomputed from the replayed batch are the ones that the run logged."""
    seen = 0
    for group in REPLAYED:
        config, rows = group.config, read_jsonl(next(LOGS.rglob(group.config.run_id)) / "completions.jsonl")
        texts = [row["tokens"] for row in group.rows]
        logged = [row["weights"] for row in rows if row["step"] == group.step and row["tokens"] in texts]
        found = RULES["cumulative"](group.batch, alpha=config.alpha, scope=config.scope)
        assert torch.allclose(found[group.batch.tokens], torch.tensor([w for row in logged for w in row]), atol=2e-4)
        assert torch.equal(group.weights[group.batch.tokens], torch.tensor([w for row in logged for w in row]))
        seen += int(group.batch.mask.sum())
    assert seen > 1000


def test_logs_without_rollouts_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="Got none below"):
        replay.groups(tmp_path)


def test_the_guides_rule_is_the_notebooks_and_is_let_in(tmp_path, batches):
    """Two examples drift apart, and the first thing a reader tries is refused."""
    root = LOGS.parents[1]
    section = (root / "docs" / "your-own-rule.md").read_text(encoding="utf-8").split("in five minutes\n", 1)[1]
    block = section.split("```python\n", 1)[1].split("```", 1)[0]
    cells = json.loads((root / "notebooks" / "08_board.ipynb").read_text(encoding="utf-8"))["cells"]
    (cell,) = ["".join(c["source"]) for c in cells if "".join(c["source"]).startswith("%%writefile")]
    assert cell.split("\n", 1)[1].strip() == block.strip() and len(block.strip().splitlines()) <= 10
    found = rule_check.check(rule_file.load(text(tmp_path / "my_rule.py", block)), batches)
    assert found.least == pytest.approx(0.2) and found.largest == 1.0


# --- what is run ------------------------------------------------------------------------------------------------------


def test_a_changed_file_has_runs_of_its_own(written, tmp_path):
    """A run is named by its rule's name: the logs of yesterday's rule would stand for today's."""
    first = runs.directory(written(), tmp_path)
    assert runs.directory(written(), tmp_path) == first
    assert runs.directory(written("return 2 - batch.entropy"), tmp_path) != first


def test_runs_load_the_file_as_it_was_when_they_were_entered(written, tmp_path):
    """Ten runs take minutes: a file edited meanwhile would be the rule of some of them, under the name of the first."""
    path = written()
    home = runs.directory(path, tmp_path / "runs")
    copy = runs.keep(path, home)
    before = copy.read_bytes()
    written("return 2 - batch.entropy")
    assert runs.keep(path, home) == copy and copy.read_bytes() == before != path.read_bytes()
    with pytest.raises(ValueError, match="must stay as it was"):
        runs.keep(path, home.with_name("my_rule-00000000"))


def test_a_file_may_define_what_looks_its_module_up(written):
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    head += "@dataclass\nclass Part:\n    x: 'float' = 1.0\n"
    path = written()
    text(path, head + path.read_text(encoding="utf-8"))
    assert rule_file.load(path).record.name == "mine"


def test_a_rule_that_reads_surprise_is_no_no_op_on_logs(written, batches):
    """Every replayed token was as surprising as its entropy says; a rule of what lies above changed nothing."""
    body = "return 1 - 0.5 * (-batch.log_probs > batch.entropy_nats + 0.1).float()"
    found = rule_check.check(rule_file.load(written(body, inputs='("entropy", "mask", "log_probs")')), batches)
    assert found.least == 0.5 and 0 < found.changed < 1


def test_only_missing_runs_are_trained_and_the_row_stands_beside_grpos(written, tmp_path, capsys, monkeypatch):
    """GRPO's published runs are read; of one's own only those that are not there are made."""
    path, logs, home = written(), tmp_path / "logs", tmp_path / "runs"
    base = preset("micro-sum", "grpo", steps=30, eval_examples=40)
    monkeypatch.setattr(command.board.Entry, "config", shortened(command.board.Entry.config))
    pairs = command.board.pairs("micro-sum")[:4]
    for start, seed in pairs[:3]:
        write_run(logs, base.replace(warm_start=start, seed=seed))
    trained = []

    def train(jobs, file, workers, samples):
        assert Path(file).read_bytes() == path.read_bytes() and Path(file) != path and samples == 16
        trained.extend(config for config, _ in jobs)
        return [write_run(parent, config) for config, parent in jobs]

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(replay, "groups", lambda *_: REPLAYED)
    options = ["--scale", "micro-sum", "--logs", str(logs), "--runs", str(home), "--pairs", "4", "--steps", "30"]
    options += ["--samples", "16"]
    assert command.main([str(path), *options]) == 0
    wanted = [("cumulative", *pairs[3]), *(("mine", *pair) for pair in pairs)]
    assert [(c.rule, c.warm_start, c.seed) for c in trained] == wanted
    said = capsys.readouterr().out
    assert "5 runs are trained now" in said and "| GRPO " in said and "| Mine " in said
    assert command.main([str(path), *options]) == 0
    assert len(trained) == 5 and "none is trained now" in capsys.readouterr().out
    assert (runs.directory(path, home) / "board-micro-sum.md").is_file()


def test_a_rule_may_have_a_learning_rate_of_its_own(written, tmp_path, capsys, monkeypatch):
    """The line to beat is the best of GRPO's three rates; a rule at one rate alone would be held to three."""
    path, trained = written(), []
    monkeypatch.setattr(command.board.Entry, "config", shortened(command.board.Entry.config))
    monkeypatch.setattr(replay, "groups", lambda *_: REPLAYED)
    for start, seed in command.board.pairs("micro-sum")[:2]:
        write_run(
            tmp_path / "logs", preset("micro-sum", "grpo", steps=30, eval_examples=40, warm_start=start, seed=seed)
        )

    def train(jobs, file, workers, samples):
        trained.extend(config for config, _ in jobs)
        return [write_run(parent, config) for config, parent in jobs]

    monkeypatch.setattr(runs, "train", train)
    options = ["--scale", "micro-sum", "--logs", str(tmp_path / "logs"), "--runs", str(tmp_path), "--steps", "30"]
    assert command.main([str(path), *options, "--pairs", "2", "--step", "2"]) == 0
    own = preset("micro-sum", "grpo").learning_rate
    assert {c.learning_rate for c in trained} == {2 * own} and {c.rule for c in trained} == {"mine"}
    assert "| Mine, 2 × step " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main([str(path), "--step", "0"])


@pytest.mark.parametrize("option", ["--workers", "--pairs"])
def test_no_workers_and_no_pairs_are_refused(written, capsys, option):
    """No pairs printed an empty board as if every run were there."""
    with pytest.raises(SystemExit):
        command.main([str(written()), option, "0"])
    assert f"{option} must be at least 1. Got 0" in capsys.readouterr().err


def test_a_run_whose_process_was_ended_says_where_to_look(written, tmp_path, capsys, monkeypatch):
    """Out of memory, a worker ended in a BrokenProcessPool that named no file."""
    monkeypatch.setattr(runs, "_one", killed)
    home = tmp_path / "mine"
    config = preset("micro-sum", "grpo", steps=30)
    with pytest.raises(runs.RunFailedError, match="perhaps for want of memory.*output.log.*--workers 1"):
        runs.train([(config, home)])


def killed(*_):
    os._exit(9)


def test_runs_of_another_rule_file_do_not_stop_the_check(tmp_path, capsys):
    """A second rule entered with LOGS=runs met the first one's runs, and was called unknown itself."""
    config = preset("micro-sum", "grpo", steps=30, eval_examples=40)
    run = write_run(tmp_path, config)
    values = json.loads((run.directory / "config.json").read_text())
    (run.directory / "config.json").write_text(json.dumps({**values, "rule": "unknown"}))
    (run.directory / "completions.jsonl").write_text("")
    assert list(logged.of_micro_models(tmp_path)) == [] and "left out" in capsys.readouterr().err


def shortened(config):
    return lambda self, *args, **changes: config(self, *args, **{"eval_examples": 40, **changes})
