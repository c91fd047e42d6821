"""A table of text cells, written as Markdown, CSV, LaTeX and HTML. Needs no torch."""

import csv
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

DASH = "—"
PLUS_MINUS = " ± "
_PROSE, _DIGIT = re.compile(r"[^\W\d_]{2}"), re.compile(r"\d")
_LATEX = {
    "±": r"$\pm$", "—": "---", "–": "--", "−": "$-$", "×": r"$\times$", "α": r"$\alpha$", "β": r"$\beta$",
    "ε": r"$\epsilon$", "⌊": r"$\lfloor$", "⌋": r"$\rfloor$", "⁻": r"$^{-}$", "₋": r"$_{-}$",
    "H̄": r"$\bar H$", "w̄": r"$\bar w$", "r̄": r"$\bar r$",
    **{raised: f"$^{{{digit}}}$" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}  # fmt: skip
# In one pass, because what stands for one of them is written with others; cells are escaped by tabulate.
_LATEX_SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\ensuremath{<}", ">": r"\ensuremath{>}",
    }
)  # fmt: skip


class Html(str):
    """A string that a notebook renders; in a terminal only its length is shown."""

    def __repr__(self):
        return f"<HTML of {len(self)} characters>"

    def _repr_html_(self):
        return str(self)


@dataclass(frozen=True)
class Table:
    """One table: cells are text as printed; ``caption`` names number, source, model, seed and date."""

    name: str
    caption: str
    header: list
    rows: list
    notes: tuple = ()

    @property
    def markdown(self):
        body = tabulate(self.rows, self.header, tablefmt="github", disable_numparse=True)
        return f"**{self.caption}**\n\n{body}\n" + "".join(f"\n{note}\n" for note in self.notes)

    @property
    def csv(self):
        """Comma-separated; a column of "value ± half-width" becomes two, a dash an empty cell."""
        split = [any(PLUS_MINUS in row[i] for row in self.rows) for i in range(len(self.header))]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        heads = zip(self.header, split, strict=True)
        writer.writerow([part for head, two in heads for part in [head, f"{head} ±"][: 1 + two]])
        for row in self.rows:
            cells = [(c if c != DASH else "", two) for c, two in zip(row, split, strict=True)]
            writer.writerow([part for cell, two in cells for part in [*cell.split(PLUS_MINUS), ""][: 1 + two]])
        return file.getvalue()

    def latex(self, folder=""):
        """A booktabs tabular in a table environment, labelled with folder and name; needs the package booktabs."""
        body = tabulate(self.rows, self.header, tablefmt="latex_booktabs", disable_numparse=True)
        notes = "".join(f"\n\\par\\footnotesize {_latex_text(note)}" for note in self.notes)
        text = f"\\caption{{{_latex_text(self.caption)}}}\n\\label{{tab:{folder}{self.name}}}\n{body}{notes}"
        for character, command in _LATEX.items():
            text = text.replace(character, command)
        return f"\\begin{{table}}[t]\n\\centering\n{text}\n\\end{{table}}\n"

    def save(self, directory):
        """Write ``name``.md, .csv and .tex below ``directory``; the paths written."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        texts = {"md": self.markdown, "csv": self.csv, "tex": self.latex(f"{directory.name}-")}
        paths = [directory / f"{self.name}.{ending}" for ending in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths

    def _repr_html_(self):
        lines = [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return Html(f"<p><b>{html.escape(self.caption)}</b></p>{html_table(self.header, self.rows)}{''.join(lines)}")


def html_table(header, rows):
    """An HTML table of anything, escaped: prose stands left, numbers stand right. It scrolls where it is too wide."""
    rows = [list(map(str, row)) for row in rows]
    # A page that shows notebooks aligns every cell right, unless the cell itself says otherwise.
    columns = [[row[i] for row in rows] for i in range(len(header))]
    left = [any(map(_PROSE.search, column)) or not any(map(_DIGIT.search, column)) for column in columns]
    body = "".join(_row(row, "td", left) for row in rows)
    return Html(f"<div style='overflow-x:auto'><table>{_row(header, 'th', left)}{body}</table></div>")


def _row(cells, tag, left):
    styles = [" style='text-align:left'" if prose else "" for prose in left]
    shown = (f"<{tag}{style}>{html.escape(str(c))}</{tag}>" for c, style in zip(cells, styles, strict=True))
    return f"<tr>{''.join(shown)}</tr>"


def _latex_text(text):
    return text.translate(_LATEX_SPECIAL)
