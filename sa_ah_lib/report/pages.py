"""Fills the numbers of README and the docs from run logs, so that none is typed. Needs no torch.

A block stands between a line ``<!-- made: NAME -->`` and the next ``<!-- end -->``, NAME being one of ``BLOCKS``.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from sa_ah_lib.analysis import answer, board, distance, kinds, loading, own_setting, preregistered
from sa_ah_lib.analysis.compared import Compared, evidence
from sa_ah_lib.analysis.comparison import by_family, caption
from sa_ah_lib.analysis.extraction import extraction
from sa_ah_lib.analysis.table import DASH
from sa_ah_lib.report import paper_tables
from sa_ah_lib.upstream.metrics import METRICS

ENDPOINTS = ("pass_at_1", "auc")
SETTLED = tuple(name for name in preregistered.DESIGNS if name != "smollm2")
"""The preregistered designs of the README's table: all but one, of four seeds, that can decide nothing."""
BLOCK = re.compile(r"(<!-- made: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.S)


def metrics(found: loading.Found) -> str:
    """The glossary of ``train.jsonl``: one row per key."""
    rows = [[f"`{m.key}`", m.column, m.unit, m.meaning] for m in METRICS.values()]
    return _markdown(["key", "heading", "unit", "meaning"], rows)


def summary(found: loading.Found) -> str:
    """Table 2 of every measured scale."""
    families = [family for family in found.of_seed(123).families if family.methods]
    return paper_tables.summary(families).markdown


def extracted(found: loading.Found) -> str:
    """Pass@1 by strict and by flexible extraction of every measured scale, one table per scale."""
    families = [family for family in found.of_seed(123).families if family.methods]
    return "\n\n".join(extraction(family).markdown.rstrip() for family in families) + "\n"


def comparisons(found: loading.Found) -> str:
    """Every comparison over seeds: what was measured, the tables of the endpoints, the answer in words."""
    parts = []
    for name, arms in by_family(found.results).items():
        compared = Compared.of(arms)
        parts.append(f"### {name}\n\nMethods over seeds, {caption(arms)}\n")
        for metric in ENDPOINTS:
            table = compared.table(metric)
            parts.append(_markdown(table.header, table.rows))
        parts.append(answer.paragraph(compared))
    return "\n\n".join(parts) + "\n"


def preregistered_results(found: loading.Found) -> str:
    """The preregistered comparisons: a table per design and endpoint, or what is missing."""
    parts = []
    for name in preregistered.DESIGNS:
        tables = [preregistered.table(found.results, name, endpoint) for endpoint in preregistered.ENDPOINTS]
        if preregistered.missing(found.results, name):
            parts += [f"**`{name}`**", *tables[0].notes]
            continue
        for table in tables:
            parts += [f"**{table.caption}**", _markdown(table.header, table.rows), *table.notes]
    return "\n\n".join(parts) + "\n"


def settled(found: loading.Found) -> str:
    """Final Pass@1 of the preregistered comparisons of ``SETTLED`` whose runs are all there.

    One row per comparison, one column per task. A cell: gain in points, 95 % interval, Holm's p, verdict.
    """
    cells: dict[str, dict[str, str]] = {}
    for name in SETTLED:
        compared = preregistered.compared(found.results, name, ("pass_at_1",))
        for one in compared["pass_at_1"] if compared else []:
            told, _, adjusted, verdict = evidence(one)
            row = cells.setdefault(f"{one.first} against {one.second}", {})
            row[preregistered.DESIGNS[name].task] = f"{told.replace(' points', '')}<br>p {adjusted}, {verdict}"
    columns = [task for task in preregistered.TASKS if any(task in row for row in cells.values())]
    rows = [[pair, *(row.get(column, DASH) for column in columns)] for pair, row in cells.items()]
    return _markdown(["points of Pass@1 [95 %], Holm's p", *columns], rows)


def learnt(found: loading.Found) -> str:
    """What each preregistered run of the pre-trained model began and ended with: answers, and how long they are."""
    rows = []
    for run, label in _pre_trained(found):
        ends = [[row for row in run.eval if row["step"] == step] for step in (0, run.last)]
        means = [[_mean(end, key) for end in ends] for key in ("correct", "truncated", "tokens")]
        right, cut, long = (f"{before:.3g} to {after:.3g}" for before, after in means)
        rows.append([run.config.dataset, label, run.config.seed, right, cut, long])
    if not rows:
        return "The runs are not finished."
    return _markdown(["problems", "arm", "seed", "Pass@1", "share cut at the limit", "mean tokens"], rows)


def by_kind(found: loading.Found) -> str:
    """Pass@1 of the preregistered runs of the pre-trained model by kind of question, before and after."""
    arms: dict[str, list[Any]] = {}
    for run, label in _pre_trained(found):
        arms.setdefault(label, []).append(run)
    return _markdown(kinds.HEADER, kinds.rows(arms)) if arms else "The runs are not finished."


def _pre_trained(found):
    """(run, label of its arm) of every design on the pre-trained model whose runs are all there."""
    designs = [name for name, design in preregistered.DESIGNS.items() if design.scale == "smollm2"]
    whole = [preregistered.DESIGNS[name] for name in designs if not preregistered.missing(found.results, name)]
    # By configuration: two designs may ask for one run.
    labels = {
        config: preregistered.ARMS[arm].label for design in whole for arm in design.arms for config in design.of(arm)
    }
    runs = {run.config: run for run in found.results}
    return [(runs[config], label) for config, label in labels.items()]


def distances(found: loading.Found) -> str:
    """How far each rule moved on the board's scales, and its comparison with GRPO at that distance."""
    moved = {scale: distance.moved(found.results, scale) for scale in board.SCALES}
    return "\n\n".join(distance.table(rows, scale).markdown.rstrip() for scale, rows in moved.items() if rows) + "\n"


def own_settings(found: loading.Found) -> str:
    """Rules against GRPO of their divisor and learning rate, on the board's scales that have such runs."""
    tables = [own_setting.table(board.rows(found.results, scale), scale) for scale in board.SCALES]
    return "\n\n".join(table.markdown.rstrip() for table in tables if table) + "\n"


def _mean(rows, key):
    return sum(row[key] for row in rows) / len(rows)


BLOCKS: dict[str, Callable[[loading.Found], str]] = {
    "metrics": metrics, "summary": summary, "comparisons": comparisons, "extraction": extracted,
    "preregistered": preregistered_results, "settled": settled, "learnt": learnt, "kinds": by_kind,
    "distance": distances, "own-setting": own_settings,
}  # fmt: skip
"""{name: what makes the block from the logs}."""


def fill(text: str, found: loading.Found) -> str:
    """``text`` with every block made anew.

    Raises:
        ValueError: a block whose name nothing makes.
    """

    def made(match: re.Match) -> str:
        if match[2] not in BLOCKS:
            raise ValueError(f"a block must be one of {sorted(BLOCKS)}. Got {match[2]!r}; correct the page.")
        return f"{match[1]}\n{BLOCKS[match[2]](found).strip()}\n\n{match[4]}"

    return BLOCK.sub(made, text)


def save(paths: Iterable[str | Path], found: loading.Found) -> list[Path]:
    """``fill`` pages in place; their paths."""
    pages = [Path(path) for path in paths]
    for page in pages:
        page.write_text(fill(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    return pages


def _markdown(header: list, rows: list) -> str:
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)
