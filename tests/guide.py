"""The docs' example of a token rule of one's own: taken from the page and run, under stock TRL and under Unsloth."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "your-own-rule.md"
HEADING = "## A rule of your own"


def example():
    """The first fenced block of Python between the guide's heading and the next one."""
    section = PAGE.read_text(encoding="utf-8").split(HEADING + "\n", 1)[1].split("\n## ", 1)[0]
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
    """Fail unless the example trained a fifth of each rollout's tokens, the most uncertain, and logged entropies."""
    assert report["values"] == [0.0, 1.0] and report["ordered"]
    # A fifth of n tokens, and never none: the largest of a rollout is at its own quantile.
    wanted = [(n - int(0.8 * (n - 1)) - (0.8 * (n - 1) % 1 > 0)) / n for n in report["tokens"]]
    assert report["kept"] == pytest.approx(wanted)
    assert len(report["logged"]) == 2 and all(0 < value < 1 for value in report["logged"])
