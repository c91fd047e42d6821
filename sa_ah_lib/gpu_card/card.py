"""Makes the card of what the stages found: card.md, card.json and one picture. Needs no torch."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sa_ah_lib.analysis.table import DASH, markdown_table
from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.gpu_card import picture
from sa_ah_lib.gpu_card.runner import DONE, Stage, saved
from sa_ah_lib.gpu_card.verdicts import worst

REHEARSAL = "A rehearsal on a CPU, at sizes that nobody trains: it shows that the stages run, and none of its times."
Card = dict[str, Any]
"""card.json: "card", the GPU's name; "date" in UTC; "rehearsal"; "not done", {title: state}; "stages", {name: file}."""
Rows = tuple[list[str], list[list[str]], list[str]]
"""(header, rows, notes) of a table."""


def make(directory: str | Path, stages: Iterable[Stage], rehearse: bool) -> Card:
    """Write the card of ``directory`` into its folder card/, and return what is in card.json.

    That has the stages' own files, whole; card.md and the picture are made from it.

    Args:
        stages: all that there are, begun or not; one is named "environment".
        rehearse: whether they ran small, on a CPU; the card then says so.
    """
    stages = list(stages)
    found = {stage.name: saved(directory, stage) for stage in stages}
    machine = found["environment"].get("result") or {}
    name = machine.get("card") or ("CPU" if machine else "unknown machine")
    card = {
        "card": name, "date": datetime.now(UTC).date().isoformat(), "rehearsal": rehearse,
        "not done": {stage.title: found[stage.name].get("state", "not run") for stage in stages
                     if found[stage.name].get("state") != DONE},
        "stages": found,
    }  # fmt: skip
    folder = Path(directory) / "card"
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(markdown(card), encoding="utf-8")
    what = "a rehearsal on a CPU: none of its times is a card's" if rehearse else "measured once"
    title = f"{card['card']}, {card['date']}: {what}."
    picture.save(folder, title, of_kind(card, "equalities"), of_kind(card, "times"))
    return card


def markdown(card: Card) -> str:
    """The card as Markdown, beside its picture card.png."""
    parts = [f"# {'Rehearsal on a ' if card['rehearsal'] else ''}{card['card']}, {card['date']}"]
    parts += [REHEARSAL] if card["rehearsal"] else []
    parts += [_machine(card), "![](card.png)"]
    for title, table in (("Losses and gradients", equalities), ("Time and memory of a step", times), ("Runs", runs),
                         ("Evaluation", evaluations)):  # fmt: skip
        header, rows, notes = table(card)
        parts += [f"## {title}", markdown_table(header, rows) if rows else "Not run."]
        parts += ["\n".join(f"- {note}" for note in notes)] if rows and notes else []
    left = [[title, state] for title, state in card["not done"].items()]
    parts += ["## Not done", markdown_table(["stage", "state"], left) if left else "Every stage is done."]
    errors = [f"`{name}`:\n\n```\n{last_lines(stage['error'])}\n```" for name, stage in card["stages"].items()
              if stage.get("error")]  # fmt: skip
    return "\n\n".join(parts + errors) + "\n"


def wrong(card: Card) -> list[str]:
    """What the stages found to be other than it must be, a sentence each."""
    return [text for stage in card["stages"].values() for text in (stage.get("result") or {}).get("wrong", [])]


def last_lines(text: str, count: int = 12) -> str:
    """The end of a traceback or log, where its reason is."""
    return "\n".join(text.strip().splitlines()[-count:])


def of_kind(card: Card, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """(title, result) of the stages whose names begin with ``kind`` and that found something."""
    return [(s["title"], s["result"]) for n, s in card["stages"].items() if n.startswith(kind) and s.get("result")]


def equalities(card: Card) -> Rows:
    """One row for each trainer and type: how far its losses and gradients are from the reference's, relative."""
    header = ["trainer", "type", "cases", "equal", "worst error", "limit", "tap apart", "packed rows", "KL at step 1"]
    rows, notes = [], []
    for _, found in of_kind(card, "equalities"):
        device, backend, dtype = found["place"].split()
        unequal, steps = {text.split(": ")[0] for text in found["wrong"]}, found["steps"] or {}
        rows.append([
            found["trainer"] + (", interpreted" if device == "interpreter" else ""), dtype,
            f"{found['compared']} of {found['wanted']}", str(len(found["errors"].keys() - unequal)),
            number(worst(found["errors"].values())), number(found["limit"]), number(found["tap"]),
            {"True": "trusted", "": DASH}.get(" ".join(found["packing"]), " ".join(found["packing"])),
            number(steps.get("kl at step 1")),
        ])  # fmt: skip
        notes += [f"{backend}, {dtype}: {text}" for text in found["wrong"]]
    return header, rows, notes


def times(card: Card) -> Rows:
    """One row for each geometry, shape and variant, in seconds and GiB; ratios are to plain GRPO under Unsloth."""
    header = ["geometry, tokens", "trainer", "generation s", "loss s", "step s", "step ratio", "loss ratio",
              "step GiB", "loss GiB", "naive loss / this"]  # fmt: skip
    rows, notes = [], []
    for title, found in of_kind(card, "times"):
        for row in found["variants"]:
            seconds = row["seconds"]
            rows.append([
                title.removeprefix("Steps of "), f"{row['backend']}, {row['variant']}",
                number(seconds.get("generation"), ".2f"), number(seconds["loss"], ".3f"),
                number(row["step_seconds"], ".2f"), number(row["time_ratio"], ".3f"),
                number(row["loss_time_ratio"], ".3f"), number(row["step_peak_mib"] / 1024, ".2f"),
                number(row["loss_peak_mib"] / 1024, ".2f"), number(row["naive_loss_memory_over_this"], ".1f"),
            ])  # fmt: skip
        notes += [f"{title}: {variant} did not fit into the card's memory." for variant in found["out of memory"]]
    notes += list(dict.fromkeys(found["goals"] for _, found in of_kind(card, "times")))
    notes += ["A backend's variants share the rollouts and the generation time of its first.",
              "Memory is beyond the model and what else was there before the step."]  # fmt: skip
    return header, rows, notes


def runs(card: Card) -> Rows:
    """One row for each method and data set: rewards, Pass@1 as right/problems, and seconds of a step."""
    header = ["problems", "method", "steps", "s per step", "reward, first 10", "last 10", "KL at step 1", "tap apart",
              "Pass@1"]  # fmt: skip
    rows = [
        [
            run["dataset"], METHOD_LABELS[run["method"]],
            str(run["steps"]) + ("" if run["finished"] else ", unfinished"),
            number(run["step seconds"], ".1f"), number(run["reward of the first 10 steps"], ".2f"),
            number(run["reward of the last 10"], ".2f"), number(run["kl at step 1"]), number(run["tap"]),
            ", ".join(f"{right}/{problems} at step {step}" for step, (right, problems) in run["pass_at_1"].items()),
        ]
        for _, found in of_kind(card, "runs") for run in found["runs"]
    ]  # fmt: skip
    return header, rows, ["The three methods of a data set ran side by side on the card, so a step alone is faster."]


def evaluations(card: Card) -> Rows:
    """One row for each evaluation: how fast it was, and the share of its tokens that were padding."""
    header = ["what", "problems", "seconds", "problems per second", "tokens per second", "padding"]
    rows = [
        [title, str(e["problems"]), number(e["seconds"], ".0f"), number(e["problems_per_second"], ".1f"),
         number(e["tokens_per_second"], ".0f"), number(e["padding_share"], ".0%")]
        for title, found in of_kind(card, "evaluation") for e in [found["evaluation"]]
    ]  # fmt: skip
    return header, rows, []


def number(value: float | None, form: str = ".2g") -> str:
    """A number as ``format`` prints it, or a dash where there is none."""
    return DASH if value is None else format(value, form)


def _machine(card: Card) -> str:
    machine = card["stages"]["environment"].get("result") or {}
    versions, torch, driver = machine.get("versions", {}), machine.get("torch", {}), machine.get("driver CUDA")
    shown = ("transformers", "trl", "unsloth", "unsloth_zoo", "peft", "triton")
    return (
        f"torch {torch.get('version', DASH)}, CUDA {torch.get('cuda') or DASH}, driver for CUDA "
        f"{'.'.join(map(str, driver)) if driver else DASH}; "
        f"{', '.join(f'{name} {versions[name]}' for name in shown if name in versions)}; "
        f"Python {machine.get('python', DASH).split()[0]}."
    )
