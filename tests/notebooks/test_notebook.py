"""What a notebook switches on: errors that begin with what to do, whose traceback is one cell away."""

import re
from pathlib import Path

import pytest

nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")

from sa_ah_lib.sweep import kernels

CELLS = {
    "set up": "from sa_ah_lib.report import notebook\nfrom sa_ah_lib.config import preset\nnotebook.set_up()",
    "ours": "preset('micro-x', 'grpo')",
    "traceback": "%tb",
    "file": "from sa_ah_lib.train.data import read_gsm8k\nread_gsm8k('/nowhere')",
    "reader's": "int('x')",
    "bug": "1 / 0",
    "called": "preset('micro-s', 'grpo').to_json('/nowhere/config.json')",
    "after": "import matplotlib.pyplot as plt\nprint(plt.rcParams['savefig.dpi'])",
}


@pytest.fixture(scope="module")
def shown():
    """{name: (what the cell showed, without colours; its lines)} of a notebook that goes on after errors."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    where = {"metadata": {"path": str(Path(__file__).parents[2])}}
    with kernels.own_sockets() as config:
        nbclient.NotebookClient(notebook, allow_errors=True, resources=where, config=config).execute()
    texts = {}
    for name, cell in zip(CELLS, notebook.cells, strict=True):
        output = cell.outputs[0] if cell.outputs else {}
        text = "\n".join(output.get("traceback", [])) or output.get("text", "")
        texts[name] = re.sub("\x1b[^m]*m", "", text)
    return texts


def test_an_error_of_ours_is_its_message(shown):
    """57 to 108 lines of traceback stood above what to do."""
    assert shown["ours"].splitlines()[0].startswith("ValueError: scale must be one of")
    assert "Did you mean 'micro-s'?" in shown["ours"] and "Traceback" not in shown["ours"]
    assert "%tb" in shown["ours"]
    assert shown["file"].startswith("FileNotFoundError: expected GSM8K's JSON lines at /nowhere")


def test_its_traceback_is_one_cell_away(shown):
    assert "Traceback" in shown["traceback"] and "fields.py" in shown["traceback"]


@pytest.mark.parametrize("name", ["reader's", "bug", "called"])
def test_other_errors_are_shown_whole(shown, name):
    """A bug's message alone does not say where it is."""
    assert "Traceback" in shown[name] and "----> 1" in shown[name]


def test_the_notebook_goes_on_in_the_project_s_style(shown):
    assert shown["after"].strip() == "300.0"
