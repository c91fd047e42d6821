"""The notebooks, executed at micro scale from published logs, as pages of the documentation. Needs the trainer's torch.

``python -m sa_ah_lib.report.gallery docs/gallery`` executes every notebook; names after it choose some. Nothing is
trained where the published logs hold a notebook's runs; else the notebook trains ``SMOKE_STEPS``, and its page says so.
"""

import argparse
import base64
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import nbformat

from sa_ah_lib.config import preset
from sa_ah_lib.report import run_notebooks
from sa_ah_lib.report.mathml import with_mathml

ROOT = Path(__file__).parents[2]
SCALE, SEED, SMOKE_STEPS = "micro-s", 123, 2
NEEDS: dict[str, list[tuple[str, dict]]] = {
    "01_zero_shot": [("zero-shot", {})],
    "02_grpo": [("grpo", {})],
    "03_ah_grpo": [("ah-grpo", {})],
    "04_sa_ah_grpo": [("sa-ah-grpo", {})],
    "05_alpha_ablation": [("grpo", {}), *(("ah-grpo", {"alpha": alpha}) for alpha in (-0.25, 0.1, 0.25, 0.5))],
}
"""{notebook: (method, fields) of every run that it shows}; the others train nothing with NEW_RUNS = 0."""

BOARDS = ("08_board",)
"""Notebooks that show every published scale at once."""

EXECUTED = "Executed when this page was built, at `{scale}`, without the cell for Colab"
FROM_LOGS = EXECUTED + (
    ". Its runs are read from the published logs; nothing was trained. Logs hold no adapter: a question of your own is "
    "put to the untouched model, and there is nothing to export."
)
SMOKE = EXECUTED + (
    ", as a smoke run of {steps} steps, because the published logs do not hold its runs. It shows what the notebook "
    "makes; its numbers mean nothing."
)
NO_RUNS = EXECUTED + "."


def build(out: Path, logs: Path, work: Path, names: Sequence[str] = (), stream: TextIO | None = None) -> list[Path]:
    """Execute notebooks into pages below ``out``, one progress line each, and write its index.

    Args:
        out: where ``<notebook>.ipynb``, a thumbnail ``<notebook>.png`` where it drew a picture, and ``index.md`` go.
        logs: published run directories; they are copied, never written to.
        work: a directory for that copy and what the notebooks write; emptied first.
        names: which notebooks, by the begin of their names ("07"); none means all.

    Returns:
        The pages, index last.

    Raises:
        ValueError: a name that no notebook begins with.
        papermill.PapermillExecutionError: a cell failed.
    """
    chosen = _chosen(names)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(logs, work / "runs")
    out.mkdir(parents=True, exist_ok=True)
    pages = []
    for notebook in chosen:
        given, note = _settings(notebook, logs, work)
        run_notebooks.execute(notebook, work / notebook.name, given, stream)
        pages.append(_page(work / notebook.name, out, note))
    shown = sorted(out.glob("[0-9][0-9]_*.ipynb"))
    (out / "index.md").write_text(_index(shown), encoding="utf-8")
    return [*pages, out / "index.md"]


def _chosen(names):
    notebooks = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    for name in names:
        if not any(path.stem.startswith(name) for path in notebooks):
            raise ValueError(f"expected the begin of one of {[path.stem for path in notebooks]}. Got {name!r}.")
    return [path for path in notebooks if not names or path.stem.startswith(tuple(names))]


def _settings(notebook, logs, work):
    """(parameters, what the page says of them). Paths are relative, because they are shown."""
    names = run_notebooks.papermill.inspect_notebook(notebook)
    runs, figures = (os.path.relpath(work / name, notebook.parent) for name in ("runs", "figures"))
    given = {"SCALE": SCALE, "SEED": SEED, "RUNS": runs, "OUT": figures, "NEW_RUNS": 0}
    if notebook.stem in BOARDS:
        given["SCALE"] = "all"
    wanted = [preset(SCALE, method, seed=SEED, **fields).run_id for method, fields in NEEDS.get(notebook.stem, ())]
    note = FROM_LOGS if wanted else NO_RUNS
    if any(not (logs / run_id / "finished.json").is_file() for run_id in wanted):
        given, note = {**given, "STEPS": SMOKE_STEPS}, SMOKE
    given = {name: value for name, value in given.items() if name in names}
    return given, note.format(scale=SCALE, steps=SMOKE_STEPS)


def _page(executed, out, note):
    """Write the executed notebook as a page: a note below its title, MathML, nothing of Colab or this machine."""
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.cells = [cell for cell in notebook.cells if "google.colab" not in cell.source]
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "markdown":
            cell.source = with_mathml(cell.source)
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(f"*{note}*"))
    text = nbformat.writes(notebook).replace(str(ROOT), "..")
    page = out / executed.name
    page.write_text(text, encoding="utf-8")
    page.with_suffix(".png").unlink(missing_ok=True)
    if picture := next(_pictures(notebook), None):
        page.with_suffix(".png").write_bytes(base64.b64decode(picture))
    return page


def _pictures(notebook):
    """Every picture that the cells show, in base64: on its own, or inside a cell's HTML."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        data = output.get("data", {})
        yield from [data["image/png"]] if "image/png" in data else []
        yield from re.findall(r"data:image/png;base64,([\w+/=]+)", data.get("text/html", ""))


def _index(pages):
    entries = []
    for page in pages:
        first = nbformat.read(page, as_version=4).cells[0].source
        title, text = first.removeprefix("# ").split("\n", 1)
        before_equation = re.split(r'<math[^>]*display="block"', text.strip())[0].strip().rstrip(",:.") + "."
        sentence = " ".join(re.split(r"(?<=[.?!])\s+(?=[A-Z])", before_equation)[0].split())
        picture = page.with_suffix(".png")
        link = f"![]({picture.name}){{ loading=lazy }}" if picture.is_file() else ""
        entries.append(f"-   **[{title}]({page.name})**\n\n    {sentence}\n" + (f"\n    {link}\n" if link else ""))
    return (
        "# Notebooks, executed\n\nWhat each notebook shows, executed when this site was built. Runs are read from the "
        'published logs.\n\n<div class="gallery" markdown>\n\n' + "\n".join(entries) + "\n</div>\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Execute notebooks into pages of the documentation."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.report.gallery", description=main.__doc__)
    parser.add_argument("out", type=Path, help="where the pages go: docs/gallery")
    parser.add_argument("names", nargs="*", help="begins of notebooks' names; none means all")
    parser.add_argument("--logs", type=Path, default=ROOT / "figures" / "logs", help="published run directories")
    options = parser.parse_args(arguments)
    build(options.out, options.logs, ROOT / "build" / "gallery", options.names, sys.stdout)


if __name__ == "__main__":
    main()
