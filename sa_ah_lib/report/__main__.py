"""Every table and figure that notebook 07 does not make, from run directories. Needs no torch.

``python -m sa_ah_lib.report figures/logs --out figures`` reads the logs once and writes ``seeds``, ``board``,
``distance``, ``preregistered``, ``microscope`` and an index of all that lies in ``--out``.
"""

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

from sa_ah_lib.analysis import board, loading
from sa_ah_lib.report import (
    board_pages,
    distance_pages,
    index,
    microscope_pages,
    pages,
    preregistered_pages,
    rule_cards,
    seed_figures,
)
from sa_ah_lib.report.style import WIDTHS


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.report", description=__doc__)
    parser.add_argument("runs", nargs="+", help="directories that hold runs")
    parser.add_argument("--out", default="figures", type=Path, help="where tables and pictures go (%(default)s)")
    parser.add_argument("--cards", help="a directory that gets a card of every rule, with its results")
    parser.add_argument("--pages", nargs="+", default=[], help="Markdown files whose blocks are made anew")
    parser.add_argument("--width", choices=WIDTHS, help="journal columns of every picture (each kind's own)")
    given = parser.parse_args(arguments)
    width = {"width": given.width} if given.width else {}
    found = loading.load(*given.runs)
    # The logs stay until the end, and statsmodels would look through all of them at every correction.
    gc.freeze()
    print(*found.messages, sep="\n")
    paths = seed_figures.save_all(found.results, given.out / "seeds", **width)
    if not paths:
        print(f"no method with two seeds or more below {given.runs}; nothing is compared over seeds.")
    boards = {scale: board.rows(found.results, scale) for scale in board.SCALES}
    paths += board_pages.save(boards, given.out / "board", **width)
    paths += distance_pages.save(found.results, given.out / "distance", **width)
    paths += preregistered_pages.save(found.results, given.out / "preregistered", **width)
    for runs in given.runs:
        paths += microscope_pages.save(Path(runs) / "microscope", given.out / "microscope", **width)
    paths += [index.save(given.out), *pages.save(given.pages, found)]
    paths += rule_cards.save(boards, given.cards) if given.cards else []
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
