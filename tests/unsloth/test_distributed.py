"""Several processes for one run: two on gloo give the loss, gradients, diagnostics and files of one."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("trl")

from sa_ah_lib.train import distributed

TESTS = Path(__file__).parents[1]
# Denominator, beta, and whether two processes give one micro-batch of all rows too, not only the mean of their own two.
CASES = {
    "group": ("group", 0.0, True), "sequence": ("sequence", 0.0, True), "batch": ("batch", 0.0, False),
    "group with the KL": ("group", 0.04, False),
}  # fmt: skip
UNSLOTH_CASES = ("group", "group with the KL")  # it is slower to set up, and its own part is the averaging
BOTH = [*(("stock", case) for case in CASES), *(("unsloth", case) for case in UNSLOTH_CASES)]
RULE = {"alpha": 0.7, "scope": "negative", "top_k": 5}
TOLERANCE = 2e-5  # float32 against float64, as in test_trainer
SMALL = {
    "dataset": "chain_sum", "eval_examples": 5, "train_examples": 8, "prompts_per_step": 4, "num_generations": 4,
    "gradient_accumulation_steps": 2, "max_completion_tokens": 8, "eval_every": 2, "save_every": 2, "steps": 3,
    "learning_rate": 1e-2, "reward_threshold": 0.0,
}  # fmt: skip


def launch(script, directory, world, *arguments, **variables):
    """``world`` processes of ``python -c script``, wired as torchrun and accelerate launch wire them."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "ACCELERATE"))}
    common = {
        **clean, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, TESTS, TESTS.parent))), **variables,
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)], cwd=directory, text=True,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=900) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors[-4000:]
    return [out for out, _ in outputs]


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


# --- in the children -------------------------------------------------------------------------------------------------


def check_losses(base):
    """Prints, on the main process, how far two processes with half the rows each are from the float64 reference."""
    if base == "unsloth":
        import unsloth  # noqa: F401
        from unsloth.models.rl import _patch_trl_rl_trainers

        _patch_trl_rl_trainers("grpo_trainer")
    import tiny
    import trl.trainer.utils

    if base == "stock":
        trl.trainer.utils._ChunkedLogProbFunction = tiny.PlainHead
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    report = {"errors": {}, "diagnostics": {}}
    for name in UNSLOTH_CASES if base == "unsloth" else CASES:
        denominator, beta, _ = CASES[name]
        made = _trainer(tiny, denominator, beta)
        batch = tiny.with_logps(tiny.micro_batch(groups=2 * world), made.model)
        rows = len(batch["completion_ids"]) // world
        parts = [
            {k: v[i * rows : (i + 1) * rows] if v.ndim else v for k, v in batch.items()} for i in range(world)
        ]  # fmt: skip
        wanted = lambda some: tiny.reference(made.model, some, denominator=denominator, beta=beta, **RULE)  # noqa: E731, B023
        whole, halves = wanted(batch), [wanted(part) for part in parts]
        mean = (
            sum(loss for loss, _ in halves) / world,
            {n: sum(gradients[n] for _, gradients in halves) / world for n in whole[1]},
        )
        laid_out = tiny.in_unsloths_layout if base == "unsloth" else dict
        tiny.loss_and_gradients(made, laid_out(batch))
        made.accelerator.reduce = lambda sums, reduction: sums  # as one process alone
        alone = made.diagnostics()
        del made.accelerator.reduce
        found = _distributed_step(tiny, made, laid_out(parts[rank]))
        together = made.diagnostics()
        report["errors"][name] = [tiny.worst_error(found, whole), tiny.worst_error(found, mean)]
        report["diagnostics"][name] = [alone, together]
    made._metrics["train"]["kl"] = [float(rank), 1.0]
    made.log({})
    report["kl"] = made.state.log_history[-1]["kl"]
    report["pooled"] = _pooled_mask(tiny, batch, parts[rank], laid_out)
    report["processes"], report["class"] = made.accelerator.num_processes, type(made).__mro__[3].__name__
    if rank == 0:
        print("REPORT" + json.dumps(report))


def _pooled_mask(tiny, batch, part, laid_out):
    """TRL's 80/20 mask of this process's tokens, the one by all processes' entropies, and the one by its own alone."""
    import torch

    made = _trainer(tiny, "tokens", 0.0, alpha=None, scope=None, rule="forking_tokens_trl", entropy_top_k=None)
    made.compute_loss(made.model, laid_out(part))
    rows = made.last_rollouts
    everything, own = (
        tiny.scores(tiny.twin(made.model), some)[1][some["completion_mask"].bool()] for some in (batch, part)
    )
    by = lambda values: (own >= torch.quantile(values, 0.8)).tolist()  # noqa: E731
    return [rows["weights"][rows["mask"].bool()].bool().tolist(), by(everything), by(own)]


def _trainer(tiny, denominator, beta, **changes):
    policy = tiny.with_lora(tiny.model())
    policy.for_training, policy.for_inference = (lambda *a, **k: policy.train()), (lambda *a, **k: policy.eval())
    rule = {"alpha": RULE["alpha"], "scope": RULE["scope"], "entropy_top_k": RULE["top_k"], **changes}
    made = tiny.trainer(
        Path.cwd(), policy, denominator=denominator, reward_threshold=0.0, config={"beta": beta}, **rule
    )
    made._autocast_enabled, made._autocast_dtype = False, None
    made.args.unsloth_grpo_mini_batch = 1
    return made


def _distributed_step(tiny, made, part):
    """The training step of a run on this process's rows: the mean loss of all, and the gradients left on this one."""
    from accelerate.utils import gather

    wrapped = made.accelerator.prepare(made.model)
    assert type(wrapped).__name__ == "DistributedDataParallel"
    made.model.zero_grad()
    made._prepare_inputs = lambda inputs: inputs
    loss = made.training_step(wrapped, part, None)
    return gather(loss.detach()[None]).mean().item(), tiny.gradients(made.model)


def check_run(model, runs):
    """A run by all processes, its end undone, and the same run again."""
    import torch

    from sa_ah_lib.config import preset
    from sa_ah_lib.train import runlog, training

    # transformers loads optimizer.pt to accelerate's device, which for several processes on CPUs is one torch.load
    # does not know, "cpu:0"; on GPUs there is nothing to add.
    torch.serialization.register_package(1, lambda storage: None, lambda s, place: s if place[:4] == "cpu:" else None)
    config = preset("micro-s", "sa-ah-grpo", model=model, **SMALL)
    run = training.run(config, runs, progress=False)
    if distributed.is_main():
        shutil.copytree(run.directory, Path(runs) / "first")
        (run.directory / "finished.json").unlink()
        shutil.rmtree(run.directory / "checkpoints" / "checkpoint-3")
    distributed.wait()
    again = training.run(config, runs, progress=False)
    if distributed.is_main():
        print("REPORT" + json.dumps([str(again.directory), runlog.is_finished(again.directory)]))


# --- the tests -------------------------------------------------------------------------------------------------------


def report(outputs):
    assert "REPORT" not in "".join(outputs[1:])
    return json.loads(outputs[0].rsplit("REPORT", 1)[1])


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """A function: the children's report for a base class, which is asked for once."""

    @cache
    def compute(base):
        variables = {}
        if base == "unsloth":
            if importlib.util.find_spec("unsloth") is None:
                pytest.skip("unsloth is not installed")
            variables = {"UNSLOTH_ALLOW_CPU": "1", "UNSLOTH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"}
        script = f"import test_distributed; test_distributed.check_losses({base!r})"
        found = report(launch(script, tmp_path_factory.mktemp(base), 2, **variables))
        assert found["processes"] == 2 and found["class"].startswith("Unsloth") == (base == "unsloth")
        return found

    return compute


@pytest.mark.parametrize("base,case", BOTH)
def test_two_processes_give_the_loss_and_gradients_of_one(losses, base, case):
    """TRL's bnpo divides by a process's own tokens, and DDP averages: unequal lengths would count unequally.

    Unsloth's loss runs the unwrapped model, so that its trainer must average the gradients itself.
    """
    at_once, mean = losses(base)["errors"][case]
    assert mean < TOLERANCE
    assert at_once < TOLERANCE if CASES[case][2] else at_once > 1e-3


@pytest.mark.parametrize("base,case", BOTH)
def test_two_processes_log_the_diagnostics_of_one(losses, base, case):
    """A mean of per-process ratios is not the ratio of the sums."""
    alone, together = losses(base)["diagnostics"][case]
    assert alone["sa_ah/reward_between_variance"] > 0 and 0 < alone["sa_ah/negative_fraction"] < 1
    assert together == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("base", ["stock", "unsloth"])
def test_the_logged_kl_is_of_all_processes(losses, base):
    """Unsloth's trainer gathers it from none but the one that writes: 0 of 0 and 1 in the first of two losses."""
    assert losses(base)["kl"] == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize("base", ["stock", "unsloth"])
def test_a_quantile_over_all_processes_is_one(losses, base):
    """Each process keeping a fifth of its own tokens, as the authors' variant does."""
    found, together, alone = losses(base)["pooled"]
    assert found == together != alone


def test_two_processes_write_each_line_once_and_resume(tmp_path, tiny_model_dir):
    """Two writers would double every line; two evaluations of one problem would change Pass@1's sample."""
    pytest.importorskip("unsloth")
    from sa_ah_lib.train import runlog

    script = "import sys, test_distributed; test_distributed.check_run(*sys.argv[1:])"
    directory, finished = report(launch(script, tmp_path, 2, tiny_model_dir, tmp_path))
    run, first = runlog.read_run(directory), runlog.read_run(tmp_path / "first")
    assert finished and run.environment["processes"] == 2 and run.environment["resumed"][0]["step"] == 2
    assert [row["step"] for row in run.train] == [1, 2, 3]
    assert [(row["step"], row["problem"]) for row in run.eval] == [(s, p) for s in (0, 2, 3) for p in range(5)]
    assert [row["question"] for row in run.eval[:5]] == [row["question"] for row in run.eval[5:10]]
    timeless = lambda rows: [{k: v for k, v in row.items() if k != "step_time"} for row in rows]  # noqa: E731
    for found, wanted in ((run.train, first.train), (run.eval, first.eval), (run.completions, first.completions)):
        assert timeless(found) == timeless(wanted)


@pytest.mark.parametrize("world,rollouts", [("1", 8), ("2", 4)])
def test_a_process_gets_its_share_of_the_micro_batch(monkeypatch, world, rollouts):
    """Without the division two processes would do a step of twice Table 1's batch."""
    monkeypatch.setenv("WORLD_SIZE", world)
    assert distributed.per_process(8, 4) == rollouts


def test_groups_that_cannot_be_dealt_out_are_refused(monkeypatch):
    """Half a group, or more groups on one process than on another, changes the mean over groups."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"multiple of the processes.*Got 2 groups of 4 rollouts for 3 processes"):
        distributed.per_process(8, 4)


def test_what_fails_on_the_main_process_fails_here():
    """A swallowed error of the decision would look like the answer None."""
    assert distributed.decided_by_main(lambda: 3) == 3 and distributed.gather([1]) == [1]
    with pytest.raises(OSError, match="full"):
        distributed.decided_by_main(lambda: (_ for _ in ()).throw(OSError("full")))
