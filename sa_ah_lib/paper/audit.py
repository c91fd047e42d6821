"""The audit as one page, a short section per check and claim, readable on a phone. Needs no torch."""

from html import escape
from pathlib import Path

from sa_ah_lib.analysis.table import Html, html_table, markdown_table
from sa_ah_lib.paper import audit_method, audit_tables, audit_text
from sa_ah_lib.paper.claims import judge
from sa_ah_lib.paper.printed import CITATION, LARGE, SMALL, family

INTRODUCTION = f"""# Audit of {CITATION}

What the paper's printed numbers say of each other, and whether N = 500 problems and one seed can carry each claim.
Every number here is computed by `sa_ah_lib` from the transcribed tables and from run logs; nothing is corrected in the
tables and figures, which show the paper as published. "Agrees" judges the printed statement alone, not the method.
"""
NUMBERS, CLAIMS = "The paper's numbers against each other", "The claims"
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


def check_sections():
    """(heading, {label: text}) of every check."""
    labels = ("Agrees", "From the paper's own numbers", "Why it matters")
    return [
        (f"{c.where}: {c.printed}", dict(zip(labels, (c.agrees, c.recomputed, c.why), strict=True))) for c in checks()
    ]


def claim_sections(judged):
    """(heading, {label: text}) of every ``Claim``."""
    return [
        (
            claim.text,
            {
                "Where": claim.where,
                "By the paper's numbers": f"{claim.by_paper.word}. {claim.by_paper.reason}",
                "By our runs": f"{claim.by_measured.word}. {claim.by_measured.reason}",
            },
        )
        for claim in judged
    ]


def verdicts(judged):
    """(header, rows): the verdicts on every claim at a glance."""
    header = ["claim", "by the paper's numbers", "by our runs"]
    return header, [[claim.text, claim.by_paper.word, claim.by_measured.word] for claim in judged]


def html(measured=(), judged=None):
    """The page for a notebook; ``judged``: the ``claims`` of ``measured`` where they are there already."""
    judged = judged or claims(measured)
    parts = [f"<h3>{title}</h3>{_html(sections)}" for title, sections in (
        (NUMBERS, check_sections()), (CLAIMS, claim_sections(judged)))]  # fmt: skip
    return Html(html_table(*verdicts(judged)) + "".join(parts))


def save(directory, measured=(), judged=None):
    """Write ``audit.md``; its path. ``judged`` as in ``html``."""
    told = [_fullest(measured, large) for large in (True, False)]
    ours = "; ".join(f.caption for f in told if f) or "no measured runs were given"
    found, judged = checks(), judged or claims(measured)
    counts = ", ".join(f"{word} {sum(c.agrees == word for c in found)}" for word in ("yes", "partly", "no", "note"))
    text = "\n".join(
        [
            INTRODUCTION,
            f"## The verdicts\n\n{LEGEND}\n\nOur runs: {ours}.\n\n{markdown_table(*verdicts(judged))}\n",
            f"## {NUMBERS}\n\n{len(found)} checks: {counts}.\n\n{_markdown(check_sections())}",
            f"## {CLAIMS}\n\n{_markdown(claim_sections(judged))}",
        ]
    )
    path = Path(directory) / "audit.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _markdown(sections):
    lines = []
    for heading, texts in sections:
        lines += [f"### {_plain(heading)}\n", *(f"- **{label}:** {_plain(text)}" for label, text in texts.items()), ""]
    return "\n".join(lines)


def _plain(text):
    """``text`` in one line, with nothing that Markdown would take for a tag."""
    return " ".join(text.split()).replace("<", "&lt;")


def _html(sections):
    lines = []
    for heading, texts in sections:
        items = "".join(f"<li><b>{label}:</b> {escape(text)}</li>" for label, text in texts.items())
        lines.append(f"<h4>{escape(heading)}</h4><ul>{items}</ul>")
    return "".join(lines)


def _fullest(families, large):
    candidates = [f for f in families if f.source == "measured" and f.is_large == large and f.methods]
    return max(candidates, key=lambda f: (len(f.methods), f.problems, len(f.results)), default=None)
