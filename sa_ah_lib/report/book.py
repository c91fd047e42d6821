"""Makes, saves and shows the artefacts of notebook 07; what a source lacks is said in its place. Needs no torch."""

import base64
import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sa_ah_lib.analysis.results import Family, MissingData
from sa_ah_lib.analysis.table import Html, Table
from sa_ah_lib.paper import audit
from sa_ah_lib.report import figures, style
from sa_ah_lib.train.run import Run


def home(runs: str | Path) -> Path:
    """Where artefacts of runs go: beside the published logs, which are ``figures/logs``; else a folder in ``runs``."""
    published = Path(runs).resolve().parts[-2:] == ("figures", "logs")
    return Path(runs).parent if published else Path(runs) / "figures"


class Book:
    """Tables and figures below one directory: a folder a family; "paper" and "measured" for tables of several.

    Args:
        directory: made if missing. width: "single" or "double", the journal column the figures are drawn for.

    Raises:
        ValueError: another width.
    """

    def __init__(self, directory: str | Path, width: str = "single"):
        if width not in style.WIDTHS:
            raise ValueError(f"width must be one of {sorted(style.WIDTHS)}. Got {width!r}.")
        self.directory, self.width = Path(directory), width
        self.paths, self.missing = [], []

    def table(self, make: Callable[[Any], Table], families: Sequence[Family], together: bool = False) -> Html:
        """Make, save and show ``make(family)`` for each family, or one ``make(families)`` for all of one source."""
        subjects: list[tuple[Any, str]] = [(family, family.name) for family in families]
        if together:
            subjects = [(families, families[0].source if families else "")]
        shown = []
        for subject, folder in subjects:
            try:
                if not subject:
                    raise MissingData("runs: none were found")
                made = make(subject)
            except (MissingData, ValueError) as problem:
                shown.append(self._note(getattr(make, "__name__", "table"), folder, problem))
                continue
            self.paths += made.save(self.directory / folder)
            shown.append(made._repr_html_())
        return Html("".join(shown))

    def figure(self, name: str, families: Iterable[Family]) -> Html:
        """Draw, save and show figure ``name`` (a key of ``figures.FIGURES``) of each family it suits, side by side."""
        shown = []
        for family in filter(figures.FIGURES[name].suits, families):
            try:
                drawn, rows = figures.render(name, family, self.width)
            except (MissingData, ValueError) as problem:
                shown.append(self._note(name, family.name, problem))
                continue
            paths = style.save(drawn, rows, self.directory / family.name, name)
            self.paths += paths
            shown.append(image(paths[0], self.width, f"{name}: {family.caption}"))
        return Html(f"<div style='display:flex;flex-wrap:wrap;gap:1em'>{''.join(shown)}</div>")

    def audit(self, measured: Sequence[Run]) -> Html:
        """Write ``audit.md`` and show it."""
        judged = audit.claims(measured)
        self.paths.append(audit.save(self.directory, measured, judged))
        return audit.html(measured, judged)

    def _note(self, what, folder, problem):
        # One bad log costs its own artefact, never the rest of the notebook.
        self.missing.append(f"{what}: {problem}")
        reason = f"not made, for want of {problem}" if isinstance(problem, MissingData) else f"not made: {problem}"
        return Html(f"<p>{html.escape(f'{what}, {folder}: {reason}')}</p>")


def image(path: Path, width: str, alternative: str) -> str:
    """A PNG as an HTML image that holds its own data, as wide as a journal column."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    told = html.escape(alternative, quote=True)
    size = f"width:{style.WIDTHS[width]}in;max-width:100%"
    return f"<img style='{size}' alt='{told}' src='data:image/png;base64,{data}'>"
