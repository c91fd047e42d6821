"""The board's tables and its picture from its rows. Needs no torch."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sa_ah_lib.analysis import board, board_table, comparison, own_setting
from sa_ah_lib.analysis.seeds import METRICS, verdict
from sa_ah_lib.analysis.table import Html
from sa_ah_lib.report import forest
from sa_ah_lib.report.comparison_rows import save_comparisons
from sa_ah_lib.report.style import WIDTHS, caption, save_pictures, styled

STYLES = (
    {"color": "#0072B2", "marker": "o", "markersize": 3},
    {"color": "#D55E00", "marker": "s", "markersize": 3},
    {"color": "#009E73", "marker": "^", "markersize": 3},
)
"""One for each scale; Okabe-Ito colours, told apart by marker in greyscale."""
APART = 0.2
FURTHEST = 22.0
"""Points of Pass@1 that the picture's axis goes to: a few rules that lose far more would press the others together."""


def plot(boards: dict[str, list[board.Row]], ax: Axes | None = None) -> Axes:
    """Forest plot: each rule's paired gain in Pass@1 over GRPO with its 95% interval, one mark for each scale.

    On the right stands the verdict, where it is not "undecided". A mean beyond ``FURTHEST`` is an arrow.

    Args:
        boards: {scale: rows of ``board.rows``}; rules that no scale ran are left out.
    """
    ax = ax or plt.subplots()[1]
    metric = board.MEASURES[0]
    labels = [row.entry.label for row in next(iter(boards.values()))]
    found = {scale: {row.entry.label: row.against.get(metric) for row in rows} for scale, rows in boards.items()}
    drawn = [label for label in labels if any(gains[label] for gains in found.values())]
    styles = {scale: style for scale, style in zip(found, STYLES, strict=False) if any(found[scale].values())}
    forest.no_difference(ax, metric)
    beside = []
    for number, (scale, style) in enumerate(styles.items()):
        shift = APART * (2 * number - len(styles) + 1)
        for place, label in enumerate(drawn):
            if not (gain := found[scale][label]):
                continue
            if abs(forest.shown(metric, [gain.gain.value])[0]) > FURTHEST:
                forest.beyond(ax, place + shift, gain, FURTHEST, style)
            else:
                forest.gain(ax, place + shift, gain, style)
            if (decided := verdict(gain)) != "undecided":
                beside.append((place + shift, decided, style["color"]))
    forest.rows(ax, drawn)
    forest.beside(ax, beside)
    ax.set_xlim(-FURTHEST - 1, FURTHEST + 1)
    ax.set_xlabel(f"{METRICS[metric].short} − GRPO's (points)\nbetter to the right")
    forest.key(ax, styles)
    return ax


def picture(boards: dict[str, list[board.Row]], width: str = "single") -> Figure | None:
    """The forest plot as a figure one or two journal columns wide, or None where no rule was run beside GRPO."""
    ran = {row.entry.label for rows in boards.values() for row in rows if row.against}
    if not ran:
        return None
    with styled():
        figure, ax = plt.subplots(figsize=(WIDTHS[width], 1.3 + 0.22 * len(ran)), layout="constrained")
        plot(boards, ax)
        bars = (
            "bars: 95% intervals; grey: margin; on the right the verdict, where none stands undecided; arrows: beyond "
            "the axis; rules that were not run are left out"
        )
        told = [_told(rows) for rows in boards.values() if any(row.against for row in rows)]
        against = "Token-weight rules against GRPO at the scale's learning rate; rows with × step have a larger one"
        return caption(figure, f"{against}. {'; '.join(told)}; {bars}")


def _told(rows):
    return comparison.caption([row.arm for row in rows if row.arm.runs])


def html(boards: dict[str, list[board.Row]]) -> Html:
    """The tables of several scales, each with what was measured and its notes."""
    return Html("".join(table._repr_html_() for table in _tables(boards)))


def _tables(boards):
    """The board of each scale, and its rules against GRPO in their own setting where there are any."""
    pairs = [(board_table.table(rows, scale), own_setting.table(rows, scale)) for scale, rows in boards.items()]
    return [table for pair in pairs for table in pair if table]


def save(boards: dict[str, list[board.Row]], directory: str | Path, width: str = "single") -> list[Path]:
    """Write ``board-<scale>`` as Markdown, CSV and LaTeX, and ``board`` as PNG, SVG and PDF; the paths written.

    ``board-numbers.csv`` and ``board-pairs.csv`` hold the comparisons with GRPO in every measure, to compute with.
    """
    drawn = picture(boards, width)
    paths = [path for table in _tables(boards) for path in table.save(directory)]
    if drawn:
        found = {scale: [one for row in rows for one in row.against.values()] for scale, rows in boards.items()}
        paths += save_pictures(drawn, directory, "board") + save_comparisons(found, directory, "board")
    return paths
