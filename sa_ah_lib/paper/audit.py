"""The audit as one page, a short section per check and claim, readable on a phone. Needs no torch."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from sa_ah_lib.analysis.comparison import by_strength, caption
from sa_ah_lib.analysis.table import Html, html_table, markdown_table
from sa_ah_lib.paper import audit_logs, audit_method, audit_tables, audit_text, audit_training
from sa_ah_lib.paper.audit_tables import Check
from sa_ah_lib.paper.claims import Claim, judge
from sa_ah_lib.paper.printed import CITATION, LARGE, SMALL, family
from sa_ah_lib.train.run import Run

INTRODUCTION = f"""# Audit of {CITATION}

What the paper's printed numbers say of each other, and whether N = 500 problems and one seed can carry each claim.
Every number here is computed by `sa_ah_lib` from the transcribed tables and from run logs; nothing is corrected in the
tables and figures, which show the paper as published. "Agrees" judges the printed statement alone, not the method.
"""
NUMBERS, CLAIMS = "The paper's numbers against each other", "The claims"
LEGEND = """\
By the paper's numbers. Supported: the direction is in the numbers and a 5% test tells it from chance. Not supported:
the direction is not in the numbers. Undecidable: it is, and chance could have made it. The tests of Pass@1 take two
evaluations as independent. They are on the same problems, where a paired test may tell more; it needs the single
answers, which are not published.

By our runs, over seeds, one comparison per model, length, alpha and learning rate. Better or worse: told from chance,
in the claim's direction or against it. Equivalent: the interval lies inside the margin. Undecided: none of these.
Not run: no comparison over seeds has the claim's runs. A difference between methods is corrected for every arm that
was compared with the same method there: with eight seeds and ten arms, as on micro-s at alpha 4, none can be told
from chance. Our models are other, far smaller ones on other problems: their runs say what the rule does there, not
what it does to Qwen on GSM8K."""


def checks() -> list[Check]:
    """Every ``Check``: tables, logs, text, method."""
    parts = (audit_tables, audit_logs, audit_text, audit_training, audit_method)
    return [check for part in parts for check in part.checks()]


def claims(measured: Sequence[Run] = ()) -> list[Claim]:
    """Every ``Claim``, by the paper's numbers and by ``measured`` runs of any scale and seed."""
    return judge(family(LARGE), family(SMALL), measured)


def check_sections() -> list[tuple[str, dict[str, str]]]:
    """(heading, {label: text}) of every check."""
    labels = ("Agrees", "From the paper's own numbers", "Why it matters")
    return [
        (f"{c.where}: {c.printed}", dict(zip(labels, (c.agrees, c.recomputed, c.why), strict=True))) for c in checks()
    ]


def claim_sections(judged: Sequence[Claim]) -> list[tuple[str, dict[str, str]]]:
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


def verdicts(judged: Sequence[Claim]) -> tuple[list[str], list[list[str]]]:
    """(header, rows): the verdicts on every claim at a glance."""
    header = ["claim", "by the paper's numbers", "by our runs"]
    return header, [[claim.text, claim.by_paper.word, claim.by_measured.word] for claim in judged]


def html(measured: Sequence[Run] = (), judged: Sequence[Claim] | None = None) -> Html:
    """The page for a notebook; ``judged``: the ``claims`` of ``measured`` where they are there already."""
    judged = judged or claims(measured)
    parts = (html_table(*verdicts(judged)), checks_html(), f"<h3>{CLAIMS}</h3>", claims_html(judged))
    return Html("".join(parts))


def checks_html() -> Html:
    """A short section for every check."""
    return Html(f"<h3>{NUMBERS}</h3>{_html(check_sections())}")


def claims_html(judged: Sequence[Claim]) -> Html:
    """A short section for every claim."""
    return Html(_html(claim_sections(judged)))


def save(directory: str | Path, measured: Sequence[Run] = (), judged: Sequence[Claim] | None = None) -> Path:
    """Write ``audit.md``; its path. ``judged`` as in ``html``."""
    ours = "; ".join(f"{name}, {caption(arms)}" for name, arms in by_strength(measured).items())
    ours = ours or "no measured runs were given"
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
