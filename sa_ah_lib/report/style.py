"""How every picture looks and is saved: widths, colours, legends, captions, undated files. Needs no torch."""

import csv
import textwrap
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sa_ah_lib.analysis.rounding import DRAWN

STYLE = Path(__file__).with_name("paper.mplstyle")
WIDTHS = {"single": 3.3, "double": 6.9}
"""Inches of one and of two journal columns."""

# Okabe-Ito colours, told apart by colour-blind readers; marker and dash tell them apart in greyscale.
METHOD_STYLE = {
    "grpo": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "ah-grpo": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "sa-ah-grpo": {"color": "#009E73", "marker": "^", "linestyle": "-."},
}


@contextmanager
def styled() -> Generator[None]:
    """The project's style for what is drawn inside; the settings of before come back after."""
    # Load a notebook's backend before, not inside: it switches interactive mode on, which the style would take back
    # with its other settings, and no later picture would be shown.
    plt.draw_if_interactive()
    with plt.style.context(STYLE):
        yield


def caption(figure: Figure, text: str) -> Figure:
    """Write source, model, seed and date above a figure, wrapped to its width."""
    figure.suptitle(textwrap.fill(text, int(figure.get_size_inches()[0] * 21)), fontsize=6, color="0.3")
    return figure


def legend_above(ax: Axes, columns: int = 2, interval: str = "") -> None:
    """A legend above ``ax``; ``interval`` names what its bars are, e.g. "95% Wald intervals"."""
    # Matplotlib names lines before bars; zero-shot is no method and comes last.
    pairs = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda pair: pair[1].startswith("zero-shot"))
    handles, labels = ([pair[k] for pair in pairs] for k in (0, 1))
    if interval:
        # An upright stroke, as the bars are.
        handles.append(Line2D([], [], color="0.35", marker="|", linestyle="none", markersize=7))
        labels.append(interval)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(handles, labels, **place, ncols=columns, columnspacing=1.2, handlelength=2.4)


def save_pictures(figure: Figure, directory: str | Path, name: str) -> list[Path]:
    """Write ``name``.png (300 dpi), .svg and .pdf without dates, so that equal data give equal bytes; the paths."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    paths = [directory / f"{name}.{ending}" for ending in undated]
    with styled():  # it also fixes the resolution, the ids inside the SVG and the PDF's kind of font
        for path, metadata in zip(paths, undated.values(), strict=True):
            figure.savefig(path, metadata=metadata)
    plt.close(figure)
    return paths


def save(figure: Figure, rows: Sequence[Mapping[str, Any]], directory: str | Path, name: str) -> list[Path]:
    """``save_pictures``, and ``name``.csv with the rows that were drawn; the paths."""
    return [*save_pictures(figure, directory, name), save_rows(rows, directory, name)]


def save_rows(rows: Sequence[Mapping[str, Any]], directory: str | Path, name: str) -> Path:
    """Write ``name``.csv, floats with as many digits as are drawn; the path."""
    path = Path(directory) / f"{name}.csv"
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.{DRAWN}g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return path
