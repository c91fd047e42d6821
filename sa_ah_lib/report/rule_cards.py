"""Rule cards: one page per token-weight rule, from its record and its rows of the board, with its weights drawn.

The drawings call the rules and need torch; without it the pages alone are written.
"""

import html
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from sa_ah_lib import rulebook
from sa_ah_lib.analysis import board, board_table
from sa_ah_lib.analysis.table import markdown_table

ROLLOUTS = (
    (
        "success, A = 1",
        1.0,
        "Let's add : 3 + 6 = 9 . So 9 ⏎",
        (0.90, 0.50, 0.05, 0.02, 0.10, 0.02, 0.01, 0.60, 0.05, 0.40, 0.03, 0.01),
    ),
    ("success, A = 0.6", 0.6, "3 + 6 = 9 ⏎", (0.90, 0.20, 0.10, 0.04, 0.30, 0.02)),
    (
        "failure, A = -0.6",
        -0.6,
        "Let's add : 3 + 6 = 8 . So 8 ⏎",
        (0.90, 0.50, 0.05, 0.02, 0.10, 0.02, 0.01, 0.60, 0.20, 0.70, 0.30, 0.01),
    ),
    ("failure, A = -1", -1.0, "3 + 6 = 7 ⏎", (0.90, 0.20, 0.10, 0.04, 0.80, 0.05)),
)
"""A made-up group: label, advantage, tokens, and their entropies in nats."""
UNSURE = {"9": 0.55, "8": 0.15, "7": 0.10, "Let's": 0.60, "So": 0.80}
VOCABULARY, SURE = 300, 0.98
"""Made-up probabilities of sampled tokens: those of ``UNSURE``, and ``SURE`` for the others."""
EXAMPLE = {"hicra": {"grams": [["Let's", "add"], ["So"]]}, "clip_cov": {"low": 0.1}, "cumulative": {"alpha": 4.0}}
"""Parameters of the drawing where the defaults show nothing on so few tokens."""

RESULTS = ("rule", "Pass@1", "gain in Pass@1 [95%]", "n", "p", "Holm p", "verdict", "verdict, line")
"""Columns of the board that a card shows."""

CELL, HEIGHT, LEFT = 44, 40, 104
LESS, MORE = "#0072B2", "#D55E00"

Cells = list[tuple[str, dict[str, str]]]
"""(rule, {column: cell}) of every row of a board."""


def save(boards: Mapping[str, list[board.Row]], directory: str | Path) -> list[Path]:
    """Write ``<rule>.md`` and ``<rule>.svg`` for every rule, and README.md with a table of them; returns the paths.

    Args:
        boards: {scale: its rows of the board}, of which the results are.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    cells = {scale: board_cells(rows, scale) for scale, rows in boards.items()}
    drawn, written = importlib.util.find_spec("torch"), []
    for record in board.SHIPPED:
        pages = {"md": card(record, cells)} | ({"svg": strip(example_weights(record))} if drawn else {})
        written += [_write(directory / f"{record.name}.{suffix}", text) for suffix, text in pages.items()]
    return [*written, _write(directory / "README.md", index())]


def card(record: rulebook.Record, boards: Mapping[str, Cells]) -> str:
    """One rule as a Markdown page; ``boards`` are {scale: ``board_cells``}."""
    parameters = "".join(
        f"| `{name}` | {_value(default)} | {_range(record.ranges.get(name))} |\n"
        for name, default in record.defaults.items()
    )
    inputs = "".join(f"| `{name}` | {rulebook.INPUTS[name]} |\n" for name in record.inputs)
    neutral = ", ".join(f"`{name} = {_value(value)}`" for name, value in (record.neutral or {}).items())
    drawn = ", ".join(f"{name} = {value}" for name, value in EXAMPLE.get(record.name, {}).items())
    blocks = [
        f"# {record.label}",
        f'`rule="{record.name}"`, from {_source(record.source)}. Divided by: `{record.denominator}`, unless '
        "`denominator` says otherwise.",
        f"$$w_{{it}} = {record.equation}$$",
        f"![Weights of the tokens of four rollouts]({record.name}.svg)",
        "A made-up group of two successes and two failures. Under each token its entropy in nats, and in bold its "
        f"weight with {drawn or 'the default parameters'}.",
        f"| parameter | default | range |\n|---|---|---|\n{parameters}" if parameters else "It has no parameters.",
        f"It is GRPO at {neutral}." if neutral else "",
        f"| reads | what that is, and what it costs |\n|---|---|\n{inputs}",
        f"**Limits.** {record.limits[0].upper()}{record.limits[1:]}." if record.limits else "",
        f"**Formula checked against** {record.checked}." if record.checked else "",
        f"**On the board.** {results(record, boards)}",
    ]
    return "\n\n".join(block.strip() for block in blocks if block) + "\n"


def board_cells(rows: list[board.Row], scale: str) -> Cells:
    """``board_table.table`` with each row under its rule, and each cell under its column."""
    table = board_table.table(rows, scale)
    named = [dict(zip(table.header, cells, strict=True)) for cells in table.rows]
    return [(row.entry.rule, cells) for row, cells in zip(rows, named, strict=True)]


def results(record: rulebook.Record, boards: Mapping[str, Cells]) -> str:
    """A rule's rows of the boards as a Markdown table, or why it has none."""
    if record.name in board.LEFT_OUT:
        return f"It has no row: {board.LEFT_OUT[record.name]}."
    told = "Pairs are of warm start and seed; the line is the best GRPO of any step size."
    rows = [
        [scale, *(cells[column] for column in RESULTS)]
        for scale, known in boards.items()
        for rule, cells in known
        if rule == record.name
    ]
    return f"{told}\n\n{markdown_table(['scale', *RESULTS], rows)}"


def index() -> str:
    """The table of all rules."""
    rows = "".join(
        f"| [{r.label}]({r.name}.md) | `{r.name}` | {_source(r.source)} | `{r.denominator}` | "
        f"{', '.join(f'`{name}`' for name in r.inputs)} |\n"
        for r in rulebook.RECORDS.values()
    )
    return (
        "# Token-weight rules\n\nEvery rule gives each completion token one weight, which multiplies GRPO's "
        "clipped policy term; weights are constants of the loss. Made by "
        "`make figures`.\n\n"
        f"| rule | name | source | divided by | reads |\n|---|---|---|---|---|\n{rows}"
    )


def example_weights(record: rulebook.Record) -> list[list[float]]:
    """The weights of the example's rollouts, one row of floats for each."""
    # Torch is only needed here, and not by the pages that import this module's neighbours.
    import torch

    from sa_ah_lib.rules import RULES, RolloutBatch

    rows = [tokens.split() for _, _, tokens, _ in ROLLOUTS]
    words, width = sorted({word for row in rows for word in row}), max(map(len, rows))
    known = {
        name: [[words.index(word) for word in gram] for gram in value] if name == "grams" else value
        for name, value in EXAMPLE.get(record.name, {}).items()
    }

    def table(values):
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in values])

    nats, log_vocabulary = table([entropy for *_, entropy in ROLLOUTS]), math.log(VOCABULARY)
    batch = RolloutBatch(
        entropy=nats / log_vocabulary,
        mask=table([[1] * len(row) for row in rows]),
        advantages=torch.tensor([advantage for _, advantage, _, _ in ROLLOUTS]),
        groups=torch.zeros(len(rows), dtype=torch.long),
        log_vocabulary=log_vocabulary,
        entropy_nats=nats,
        completion_ids=table([[words.index(word) for word in row] for row in rows]),
        log_probs=table([[math.log(UNSURE.get(word, SURE)) for word in row] for row in rows]),
    )
    weights = RULES[record.name](batch, **known).tolist()
    return [row[: len(tokens)] for row, tokens in zip(weights, rows, strict=True)]


def strip(weights: Sequence[Sequence[float]]) -> str:
    """An SVG of the group: each token with its entropy and weight, blue below 1 and orange above."""
    width, height = LEFT + CELL * max(map(len, weights)) + 2, len(weights) * (HEIGHT + 6) + 6
    parts = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for i, (row, (label, _, tokens, entropy)) in enumerate(zip(weights, ROLLOUTS, strict=True)):
        top = 4 + i * (HEIGHT + 6)
        parts.append(_text(LEFT - 6, top + HEIGHT / 2 + 4, label, 12, "end"))
        for t, (weight, token, nats) in enumerate(zip(row, tokens.split(), entropy, strict=True)):
            left, shade = LEFT + t * CELL, 0.75 * min(1.0, abs(weight - 1))
            parts.append(
                f'<rect x="{left}" y="{top}" width="{CELL - 2}" height="{HEIGHT}" stroke="#999" '
                f'fill="{LESS if weight < 1 else MORE}" fill-opacity="{shade:.2f}"/>'
            )
            for down, text, size, face in (
                (12, token, 10, ""),
                (23, f"{nats:.2f}", 8, ""),
                (36, f"{weight:.2f}", 11, "bold"),
            ):
                parts.append(_text(left + CELL / 2 - 1, top + down, text, size, "middle", face))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'{head} font-family="sans-serif">\n' + "\n".join(parts) + "\n</svg>\n"


def _text(x, y, text, size, anchor, face=""):
    face, text = f' font-weight="{face}"' if face else "", html.escape(text, quote=False)
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{face}>{text}</text>'


def _source(source):
    return source if source == "this project" else f"[arXiv {source}](https://arxiv.org/abs/{source})"


def _value(value):
    return f"{value:.4g}" if isinstance(value, float) else "none" if value == () else str(value)


def _range(allowed):
    if allowed is None:
        return "any"
    if isinstance(allowed[0], str):
        return ", ".join(allowed)
    if isinstance(allowed[0], type):
        return f"lists of {allowed[0].__name__}"
    return f"{_value(allowed[0])} to {_value(allowed[1])}".replace("inf", "infinity").replace("1e-12", "above 0")


def _write(path, text):
    path.write_text(text, encoding="utf-8")
    return path
