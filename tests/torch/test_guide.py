"""README's example of a token rule of one's own: extracted from the page and run, so that it cannot rot there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
HEADING = "## Your own token weights under Unsloth"


def example():
    """The first fenced block of Python between the guide's heading and the next one."""
    section = README.read_text(encoding="utf-8").split(HEADING + "\n", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```python\n(.*?)```", section, re.S).group(1)


def run_the_example(directory, policy):
    """Run the block on a tiny model, with whatever ``trl.GRPOTrainer`` is.

    Returns:
        dict: ``kept`` (share of each rollout's tokens that it trained), ``least kept`` and ``most dropped`` (entropies
        on either side), ``loss`` and ``expected`` (of the last micro-batch), ``logged`` (entropies printed or logged).
    """
    import tiny

    policy.save_pretrained(directory / "model")
    policy.config._name_or_path = str(directory / "model")
    scope = {
        "model": policy, "tokenizer": tiny.tokenizer(), "reward_funcs": [tiny.digit_share, tiny.first_letter],
        "args": tiny.arguments(directory, max_steps=2, max_completion_length=20), "train_dataset": tiny.dataset(),
    }  # fmt: skip
    exec(example(), scope)  # noqa: S102
    trainer = scope["trainer"]
    rows = trainer.last_rollouts
    kept, mask = rows["weights"].bool() & rows["mask"].bool(), rows["mask"].bool()
    triples = zip(rows["entropy"], kept, mask, strict=True)
    return {
        "kept": [(k.sum() / m.sum()).item() for k, m in zip(kept, mask, strict=True)],
        "ordered": all(not (m & ~k).any() or h[k].min() > h[m & ~k].max() for h, k, m in triples),
        "tokens": mask.sum(1).tolist(),
        "values": sorted({round(w, 6) for w in rows["weights"][mask].tolist()}),
        "logged": [row["sa_ah/entropy"] for row in trainer.state.log_history if "sa_ah/entropy" in row],
        "base": type(trainer).__mro__[1].__mro__[3].__name__,
    }


def check(report):
    assert report["values"] == [0.0, 1.0] and report["ordered"]
    # A fifth of n tokens, and never none: the largest of a rollout is at its own quantile.
    wanted = [(n - int(0.8 * (n - 1)) - (0.8 * (n - 1) % 1 > 0)) / n for n in report["tokens"]]
    assert report["kept"] == pytest.approx(wanted)
    assert len(report["logged"]) == 2 and all(0 < value < 1 for value in report["logged"])


def test_the_example_trains_its_own_rule_on_stock_trl(tmp_path, monkeypatch):
    """A guide that was right once."""
    pytest.importorskip("trl")
    import tiny
    import trl.trainer.utils

    if trl.GRPOTrainer.__name__.startswith("Unsloth"):
        pytest.skip("Unsloth has replaced stock TRL in this process; see test_seam")
    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", tiny.PlainHead, raising=False)
    report = run_the_example(tmp_path, tiny.model())
    check(report)


def test_the_example_is_ten_lines(tmp_path):
    """The seam's promise: a rule is a method, not a fork."""
    lines = [line for line in example().splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= 10
