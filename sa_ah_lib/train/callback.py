"""What a training run leaves behind step by step: the trainer's callback that logs, evaluates and samples rollouts."""

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from sa_ah_lib.config import RunConfig
from sa_ah_lib.train import distributed, runlog
from sa_ah_lib.train.data import Problem
from sa_ah_lib.train.evaluation import evaluate, pass_at_1


class RunLogCallback(TrainerCallback):
    """Writes one line per step, evaluates every ``eval_every`` steps, and keeps sampled rollouts token by token.

    With several processes each evaluates its share of the problems, and the main one writes: ``log`` is None elsewhere.
    """

    def __init__(self, config, loaded, problems, log, progress):
        self.config, self.loaded, self.problems, self.log = config, loaded, problems, log
        self.progress = progress
        self.trainer = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        before = runlog.read_jsonl(self.log.directory / "train.jsonl") if self.log else []
        self.progress.begin(state.global_step, [row["reward"] for row in before if row["reward"] is not None])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.stepped(state.global_step)
        due = state.global_step % self.config.eval_every == 0 or state.global_step == self.config.steps
        if self.log and (due or state.global_step == 1):
            for row in rollout_rows(self.trainer.last_rollouts, self.loaded.tokenizer, state.global_step):
                self.log.write("completions", row)
        if due:
            self._evaluate(state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.log and logs and "reward" in logs:
            self.log.write("train", {"step": state.global_step, **logs})
            self.progress.stepped(state.global_step, logs["reward"])
            if control.should_save:
                self.log.sync()

    def _evaluate(self, state, control):
        step = state.global_step
        rows = evaluate_together(self.loaded, self.problems, self.config, step, self.progress)
        right, total = pass_at_1(rows)
        self.progress.evaluated(step, right, total)
        if self.log:
            for row in rows:
                self.log.write("eval", row)
        # Trackers show it as eval/pass_at_1.
        self._show_trackers({"eval_pass_at_1": right / total}, state, control)

    def _show_trackers(self, values, state, control):
        # Not through trainer.log(), which would empty the metrics of the step that is about to be logged.
        due = control.should_log
        self.trainer.callback_handler.on_log(self.trainer.args, state, control, values)
        control.should_log = due


def evaluate_together(
    loaded: Any, problems: list[Problem], config: RunConfig, step: int, progress: Any
) -> list[dict[str, Any]]:
    """``evaluate`` with the problems dealt out to the processes; each gets all rows, in the problems' order."""
    first, stride = distributed.index(), distributed.count()
    mine = problems[first::stride]
    rows = evaluate(loaded.model, loaded.tokenizer, mine, config, step, progress.evaluating) if mine else []
    dealt = [{**row, "problem": first + stride * row["problem"]} for row in rows]
    return sorted(distributed.gather(dealt), key=lambda row: row["problem"])


def rollout_rows(rollouts: Mapping[str, Any], tokenizer: Any, step: int) -> list[dict[str, Any]]:
    """One group of the last micro-batch as rows for completions.jsonl, the group whose rewards differ most.

    Each row: step, prompt, tokens (list of text), entropy (normalised) and weights (lists as long as tokens),
    advantage, reward, completion.
    """
    groups = rollouts["groups"].unique().tolist()
    spread = {g: rollouts["rewards"][rollouts["groups"] == g].std().item() for g in groups}
    members = (rollouts["groups"] == max(groups, key=lambda g: spread[g])).nonzero().flatten().tolist()
    rows = []
    for i in members:
        # Unsloth shifts rows when it packs them, so tokens are matched by order, not by column.
        tokens = rollouts["completion_ids"][i][rollouts["completion_mask"][i].bool()].tolist()
        mask = rollouts["mask"][i].bool()
        prompt = rollouts["prompt_ids"][i][rollouts["prompt_mask"][i].bool()]
        rows.append(
            {
                "step": step,
                "prompt": tokenizer.decode(prompt, skip_special_tokens=True),
                "tokens": [tokenizer.decode([token]) for token in tokens],
                "entropy": [round(x, 6) for x in rollouts["entropy"][i][mask].tolist()],
                "weights": [round(x, 6) for x in rollouts["weights"][i][mask].tolist()],
                "advantage": round(rollouts["advantages"][i].item(), 6),
                "reward": round(rollouts["rewards"][i].item(), 6),
                "completion": tokenizer.decode(tokens, skip_special_tokens=True),
            }
        )
    return rows
