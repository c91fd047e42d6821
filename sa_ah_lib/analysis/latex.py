"""A table as LaTeX that fits its journal column: escaped text, an estimated width, panels. Needs no torch."""

import re

import pandas as pd

COLUMN, PAGE = 238.0, 497.0
"""Points (1/72.27 in) of one journal column (3.3 in) and of two (6.9 in)."""
_CHARACTER, _GAP = 4.5, 12.0
"""Points of a character in \\footnotesize, and between two columns."""
_SIGNS = {
    "±": r"$\pm$", "—": "---", "–": "--", "−": "$-$", "×": r"$\times$", "α": r"$\alpha$", "β": r"$\beta$",
    "ε": r"$\epsilon$", "⌊": r"$\lfloor$", "⌋": r"$\rfloor$", "⁻": r"$^{-}$", "₋": r"$_{-}$", "†": r"$^{\dagger}$",
    "H̄": r"$\bar H$", "w̄": r"$\bar w$", "r̄": r"$\bar r$",
    **{raised: f"$^{{{digit}}}$" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}  # fmt: skip
# In one pass, because what stands for one of them is written with others.
_SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\ensuremath{<}", ">": r"\ensuremath{>}",
    }
)  # fmt: skip


def text(value: object) -> str:
    """``value`` as LaTeX in ASCII: special characters escaped, signs as commands, the hyphen of a number a minus."""
    escaped = re.sub(r"(?<![\w.])-(?=\d)", "−", str(value)).translate(_SPECIAL)
    for sign, command in _SIGNS.items():
        escaped = escaped.replace(sign, command)
    return escaped


def table(frame: pd.DataFrame, align: str, bold: tuple, caption: str, label: str, notes: tuple) -> str:
    """A table environment with booktabs rules, as wide as one journal column or, starred, as two.

    A table that is wider than two columns is set as several below one another, each with the first column again.
    Needs the packages booktabs and graphicx.

    Args:
        frame: the cells. align: "l" or "r" for each column. bold: (row, column) of the cells to set in bold.
        caption: without its number, which LaTeX sets. notes: lines below the table.
    """
    widths = [_GAP + _CHARACTER * max(map(len, [str(head), *column])) for head, column in frame.items()]
    star, room = ("", COLUMN) if sum(widths) <= 1.3 * COLUMN else ("*", PAGE)
    panels = [
        _fitted(_tabular(frame, align, bold, columns), sum(widths[i] for i in columns), room, star)
        for columns in _panels(widths, room)
    ]
    below = [f"\\par\\raggedright {text(note)}" for note in notes]
    lines = [
        f"\\begin{{table{star}}}[t]", "\\centering", f"\\caption{{{text(caption)}}}", f"\\label{{{label}}}",
        "\\footnotesize", "\n\\par\\smallskip\n".join(panels), *below, f"\\end{{table{star}}}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _panels(widths, room):
    """Groups of column numbers, each with the first column, that are at most a third wider than ``room``."""
    groups = [[0]]
    for column in range(1, len(widths)):
        if len(groups[-1]) > 1 and sum(widths[i] for i in groups[-1]) + widths[column] > 1.3 * room:
            groups.append([0])
        groups[-1].append(column)
    return groups


def _tabular(frame, align, bold, columns):
    styles = pd.DataFrame("", frame.index, frame.columns)
    for row, column in bold:
        styles.iloc[row, column] = "textbf:--rwrap"
    chosen, styles = frame.iloc[:, columns], styles.iloc[:, columns]
    styler = chosen.style.hide(axis="index").format(text).format_index(text, axis=1).apply(lambda _: styles, axis=None)
    return styler.to_latex(hrules=True, column_format="".join(align[i] for i in columns)).strip()


def _fitted(tabular, width, room, star):
    # Estimates are off by a tenth; a table that nearly fills its room is scaled to it, which no reader sees.
    if width <= 0.85 * room:
        return tabular
    return f"\\resizebox{{\\{'textwidth' if star else 'columnwidth'}}}{{!}}{{%\n{tabular}%\n}}"
