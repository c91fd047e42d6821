"""The audit as one page: every check of the paper's own numbers, then every claim judged twice. Needs no torch."""

from pathlib import Path

from tabulate import tabulate

from sa_ah_lib.analysis.table import Html, html_table
from sa_ah_lib.paper import audit_method, audit_tables, audit_text
from sa_ah_lib.paper.claims import judge
from sa_ah_lib.paper.printed import CITATION, LARGE, SMALL, family

CHECK_HEADER = ["where", "printed", "recomputed from the paper's own numbers", "agrees", "why it matters"]
CLAIM_HEADER = ["claim", "where", "by the paper's numbers", "because", "by our runs", "because"]
INTRODUCTION = f"""# Audit of {CITATION}

What the paper's printed numbers say of each other, and whether N = 500 problems and one seed can carry each claim.
Every number here is computed by `sa_ah_lib` from the transcribed tables and from run logs; nothing is corrected in the
tables and figures, which show the paper as published. "Agrees" judges the printed statement alone, not the method.
"""
LEGEND = """\
Supported: the direction is in the numbers and a 5% test tells it from chance. Not supported: the direction is not in
the numbers. Undecidable: it is, and chance could have made it. Our micro models are other, far smaller models on other
problems: their runs say what the rule does there, not what it does to Qwen on GSM8K."""


def checks():
    """Every ``Check``: tables, text, method."""
    return [*audit_tables.checks(), *audit_text.checks(), *audit_method.checks()]


def claims(measured=()):
    """Every ``Claim``, by the paper and by the fullest measured family of each size.

    Args:
        measured: measured families; those that trained all three methods on most problems stand for the two models.
    """
    return judge(family(LARGE), family(SMALL), *(_fullest(measured, large) for large in (True, False)))


def check_rows():
    """The cells of the first table, in ``CHECK_HEADER``'s order."""
    return [[c.where, c.printed, c.recomputed, c.agrees, c.why] for c in checks()]


def claim_rows(measured=()):
    """The cells of the second table, in ``CLAIM_HEADER``'s order."""
    return [[c.text, c.where, *c.by_paper, *c.by_measured] for c in claims(measured)]


def html(measured=(), judged=None):
    """Both tables for a notebook; ``judged``: the ``claim_rows`` of ``measured`` where they are there already."""
    return Html(html_table(CHECK_HEADER, check_rows()) + html_table(CLAIM_HEADER, judged or claim_rows(measured)))


def save(directory, measured=(), judged=None):
    """Write ``audit.md``; its path. ``judged`` as in ``html``."""
    told = [_fullest(measured, large) for large in (True, False)]
    ours = "; ".join(f.caption for f in told if f) or "no measured runs were given"
    rows, judged = check_rows(), judged or claim_rows(measured)
    counts = ", ".join(f"{word} {sum(row[3] == word for row in rows)}" for word in ("yes", "partly", "no", "note"))
    text = "\n".join(
        [
            INTRODUCTION,
            f"## The paper's numbers against each other\n\n{len(rows)} checks: {counts}.\n",
            _github(CHECK_HEADER, rows),
            f"\n## The claims\n\n{LEGEND}\n\nOur runs: {ours}.\n",
            _github(CLAIM_HEADER, judged),
            "",
        ]
    )
    path = Path(directory) / "audit.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _github(header, rows):
    safe = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return tabulate(safe, header, tablefmt="github", disable_numparse=True)


def _fullest(families, large):
    candidates = [f for f in families if f.source == "measured" and f.is_large == large and f.methods]
    return max(candidates, key=lambda f: (len(f.methods), f.problems, len(f.results)), default=None)
