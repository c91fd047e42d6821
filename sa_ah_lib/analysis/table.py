"""A table of text cells, written as Markdown, CSV, LaTeX and HTML. Needs no torch."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tabulate

from sa_ah_lib.analysis import latex

DASH = "—"
PLUS_MINUS = " ± "


class Html(str):
    """A string that a notebook renders; in a terminal only its length is shown."""

    def __repr__(self):
        return f"<HTML of {len(self)} characters>"

    def _repr_html_(self):
        return str(self)


@dataclass(frozen=True)
class Table:
    """One table: cells are text as printed.

    Attributes:
        name: the files' name. caption: number, title, source, model, seed and date.
        header, rows: the cells. notes: lines below the table.
        bold: (row, column) of the cells that are set in bold, counted from 0.
    """

    name: str
    caption: str
    header: list
    rows: list
    notes: tuple = ()
    bold: tuple = ()

    @property
    def frame(self) -> pd.DataFrame:
        """The cells as they are printed."""
        return pd.DataFrame(self.rows, columns=self.header, dtype=object)

    @property
    def markdown(self) -> str:
        rows = [
            [f"**{cell}**" if (i, j) in self.bold else cell for j, cell in enumerate(row)]
            for i, row in enumerate(self.rows)
        ]
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return f"**{self.caption}**\n\n{markdown_table(self.header, rows)}\n{notes}"

    @property
    def csv(self) -> str:
        """Comma-separated; a column of "value ± half-width" becomes two, a dash an empty cell; no footnote marks."""
        columns = {}
        for head, cells in self.frame.replace({DASH: "", "†": ""}, regex=True).items():
            parts = cells.str.split(PLUS_MINUS, expand=True)
            columns |= {head + " ±" * i: part for i, part in parts.items()}
        return pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")

    def latex(self, folder: str = "") -> str:
        """A table environment as wide as one or two journal columns, labelled with folder and name.

        LaTeX sets the table's number, so the caption goes without ours. Needs the packages booktabs and graphicx.
        """
        align = "".join("r" if right else "l" for right in numeric(self.rows))
        caption = re.sub(r"^Table \w+: ", "", self.caption)
        return latex.table(self.frame, align, self.bold, caption, f"tab:{folder}{self.name}", self.notes)

    def save(self, directory: str | Path) -> list[Path]:
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
        cells = html_table(self.header, self.rows, self.bold)
        return Html(f"<p><b>{html.escape(self.caption)}</b></p>{cells}{''.join(lines)}")


def numeric(rows: list) -> list[bool]:
    """Whether each column holds numbers: digits with signs and brackets, and no word but "points"; dashes aside."""
    columns = [[text for cell in column if (text := str(cell)) not in (DASH, "")] for column in zip(*rows, strict=True)]
    return [bool(column) and all(map(_is_number, column)) for column in columns]


def markdown_table(header: list, rows: list) -> str:
    """A Markdown table of anything, numbers right-aligned; the same whether or not the package wcwidth is there."""
    safe = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    align = ["right" if right else "left" for right in numeric(rows)]
    # With wcwidth tabulate pads to the cells of a terminal, else to characters.
    before, tabulate.WIDE_CHARS_MODE = tabulate.WIDE_CHARS_MODE, False
    try:
        return tabulate.tabulate(safe, header, tablefmt="pipe", disable_numparse=True, colalign=align or None)
    finally:
        tabulate.WIDE_CHARS_MODE = before


def html_table(header: list, rows: list, bold: tuple = ()) -> Html:
    """An HTML table of anything, escaped: words stand left, numbers right. It scrolls where it is too wide."""
    rows = list(rows)
    right = numeric(rows) or [False] * len(header)
    body = "".join(_row(row, "td", right, [j for i, j in bold if i == number]) for number, row in enumerate(rows))
    style = "overflow-x:auto;font-variant-numeric:tabular-nums"
    return Html(f"<div style='{style}'><table>{_row(header, 'th', right)}{body}</table></div>")


def _row(cells, tag, right, bold=()):
    # A page that shows notebooks aligns every cell right, unless the cell itself says otherwise.
    styles = ["" if number else " style='text-align:left'" for number in right]
    texts = [f"<b>{html.escape(str(c))}</b>" if i in bold else html.escape(str(c)) for i, c in enumerate(cells)]
    shown = (f"<{tag}{style}>{text}</{tag}>" for text, style in zip(texts, styles, strict=True))
    return f"<tr>{''.join(shown)}</tr>"


def _is_number(text):
    return bool(re.search(r"\d", text)) and not any(c.isalpha() for c in text.replace("points", ""))
