"""Every published table as a paper would set it: LaTeX compiles it, and it stays in its column."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sa_ah_lib.analysis.table import Table

FIGURES = Path(__file__).parents[2] / "figures"
LATEX = shutil.which("pdflatex")
DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[paperwidth=8.5in,textwidth=6.9in,columnsep=0.3in]{geometry}
\usepackage{booktabs,graphicx}
\extrafloats{200}
\begin{document}
\typeout{COLUMN \the\columnwidth}
"""
WIDE = Table("wide", "Table S9: wide", ["arm", *(f"column {i}" for i in range(14))],
             [["GRPO"] + ["0.688 [0.680, 0.698]"] * 14] * 3)  # fmt: skip


def compiled(tables, directory):
    """The log of LaTeX on a two-column document of ``tables`` (their texts), and its table of numbered captions."""
    body = "\n\\clearpage\n".join(tables)
    (directory / "all.tex").write_text(f"{DOCUMENT}{body}\n\\end{{document}}\n", encoding="ascii")
    command = [LATEX, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, errors="replace")
    log = (directory / "all.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log, (directory / "all.aux").read_text()


def overfull(log):
    """Points by which each line or box of a log leaves its column, those below half a point left out."""
    return [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(points) > 0.5]


@pytest.mark.skipif(not LATEX, reason="no pdflatex on PATH")
def test_every_published_table_compiles_in_its_column(tmp_path):
    """Tables of fourteen columns ran off the page, and a bad sign stops the build of the whole paper."""
    paths = sorted(FIGURES.rglob("*.tex"))
    assert len(paths) >= 30
    texts = [path.read_text() for path in paths]
    log, numbered = compiled(texts, tmp_path)
    assert overfull(log) == [] and "multiply defined" not in log
    assert numbered.count(r"\@writefile{lot}") == "".join(texts).count(r"\begin{table") > 0
    assert not re.search(r"ignorespaces +Table", numbered)


@pytest.mark.skipif(not LATEX, reason="no pdflatex on PATH")
def test_a_table_that_leaves_its_column_is_noticed(tmp_path):
    """The check above must see what it looks for."""
    plain = re.sub(r"\\resizebox\{.*?\{!\}", "", WIDE.latex()).replace("table*", "table")
    assert overfull(compiled([plain], tmp_path)[0]) and not overfull(compiled([WIDE.latex()], tmp_path)[0])


def test_a_wide_table_is_set_in_panels_that_repeat_their_first_column():
    """Scaled to one line of the page, fourteen columns are three points high."""
    made = WIDE.latex()
    panels = re.findall(r"\\begin\{tabular\}\{(.*?)\}", made)
    assert made.startswith(r"\begin{table*}") and len(panels) > 2 and sum(map(len, panels)) == 14 + len(panels)
    assert made.count("arm &") == len(panels) and made.count("column 9") == 1


def test_a_narrow_table_takes_one_column_and_is_not_enlarged():
    made = Table("t", "c", ["method", "Pass@1"], [["GRPO", "0.852"]]).latex()
    assert made.startswith("\\begin{table}[t]") and "resizebox" not in made
