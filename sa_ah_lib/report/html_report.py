"""One self-contained HTML page from run logs: tables, figures, statistics, audit, heat-maps. Needs no torch.

``python -m sa_ah_lib.report.html_report RUNS... --out report.html`` is the thing to send to a colleague.
"""

import argparse
import html
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sa_ah_lib.analysis import answer, loading, preregistered
from sa_ah_lib.analysis.compared import Compared, evidence
from sa_ah_lib.analysis.comparison import by_family
from sa_ah_lib.analysis.extraction import extraction
from sa_ah_lib.analysis.table import html_table
from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.paper import audit, printed
from sa_ah_lib.report import display, figures, own_tables, paper_tables, preregistered_pages, seed_figures
from sa_ah_lib.report.book import Book, image
from sa_ah_lib.report.style import save_pictures

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:1.5rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem;line-height:1.25}h2{border-top:1px solid #ccc;padding-top:1rem}p,li{max-width:60rem}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem}img{max-width:100%}ul{padding-left:1.2rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:13px;display:block;overflow-x:auto}
th,td{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:right;vertical-align:top}th{border-bottom-color:#888}
code{font-size:12px;line-height:1.9}summary{cursor:pointer}
@media (min-width:40rem){td:first-child{white-space:nowrap}}
@media (max-width:40rem){th,td{padding:.25rem .4rem .25rem 0}}
"""
PER_FAMILY = (paper_tables.checkpoints, paper_tables.alphas, paper_tables.diagnostics)
STATISTICS = (own_tables.comparisons, own_tables.peaks, own_tables.variances, extraction)


def build(everything_found: loading.Found, out: str | Path, seed: int = 123) -> Path:
    """Write the page for ``loading.Found`` to ``out``; its path.

    It opens with what was found over seeds and the claims. Then the paper's numbers come first in every section, the
    measured ones of ``seed`` after them, each captioned with its source.
    """
    found = everything_found.of_seed(seed)
    published = [printed.family(scale) for scale in (printed.LARGE, printed.SMALL)]
    trained = [family for family in found.families if family.methods]
    everything = published + trained
    judged = audit.claims(everything_found.results)
    with tempfile.TemporaryDirectory() as scratch:
        pages = Book(scratch)
        seeds = _seeds(everything_found.results, scratch)
        sections = {
            # Where nothing was settled before the runs: the first comparison's answer and figure.
            "Finding": _finding(everything_found.results, scratch) or seeds[:2],
            "Claims": [html_table(*audit.verdicts(judged)), *map(_paragraph, audit.LEGEND.split("\n\n")),
                       audit.claims_html(judged)],
            "Seeds": seeds,
            "Tables": [
                *(
                    pages.table(make, families, together=True)
                    for make in (paper_tables.hyperparameters, paper_tables.summary)
                    for families in (published, trained)
                ),
                *(pages.table(make, everything) for make in PER_FAMILY),
            ],
            "Figures": [
                f"<h3>{html.escape(name)} · {html.escape(spec.title)}</h3>{pages.figure(name, everything)}"
                for name, spec in figures.FIGURES.items()
            ],
            "Statistics": [pages.table(make, everything) for make in STATISTICS],
            "Rollouts": [_heat_maps(family) for family in trained],
            "Audit": [audit.checks_html()],
            "Sources": [f"<details><summary>The runs by their names</summary>{found._repr_html_()}</details>"],
        }  # fmt: skip
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(_page(sections), encoding="utf-8")
    return out


def _finding(results, scratch):
    """The preregistered comparisons of every design whose runs are all there: a line each, and their picture."""
    parts = []
    for name, design in preregistered.DESIGNS.items():
        compared = preregistered.compared(results, name)
        if compared is None:
            continue
        lines = []
        for one, (_, _, asked) in zip(compared["pass_at_1"], design.comparisons, strict=True):
            gain, *_, verdict = evidence(one)
            lines.append(f"<li><b>{one.first} against {one.second}</b>, {asked}: {gain}, {verdict}</li>")
        title = (
            f"Final Pass@1 on {design.task} with 95% intervals, by comparisons that were settled before the runs. "
            "AH is AH-GRPO, SA is SA-AH-GRPO."
        )
        paths = save_pictures(preregistered_pages.picture(results, name), scratch, f"preregistered-{name}")
        parts += [_paragraph(title), f"<ul>{''.join(lines)}</ul>", image(paths[0], "single", title)]
    return parts


def _seeds(results, scratch):
    """Every comparison of two seeds or more: the answer in words, figure, tables."""
    parts = []
    for name, arms in by_family(results).items():
        compared = Compared.of(arms)
        parts += [f"<h3>{html.escape(name)}</h3>{_paragraph(answer.paragraph(compared))}"]
        for paths in seed_figures.save(compared, scratch, name, kinds=("summary",)).values():
            parts.append(image(paths[0], "double", f"paired differences from GRPO, {name}"))
        parts += [compared.table(metric)._repr_html_() for metric in compared.metrics]
    return parts or [_paragraph("No method was run with two seeds or more.")]


def _heat_maps(family):
    """The last sampled good and bad rollout of each method, token by token."""
    maps = [f"<h4>{METHOD_LABELS[m]}</h4>{display.heat_map(result)}" for m, result in family.methods.items()]
    return f"<h3>{html.escape(family.caption)}</h3>{''.join(maps)}"


def _paragraph(text):
    return f"<p>{html.escape(text)}</p>"


def _page(sections):
    links = " ".join(f"<a href='#{name.lower()}'>{name}</a>" for name in sections)
    body = "".join(f"<h2 id='{name.lower()}'>{name}</h2>{''.join(parts)}" for name, parts in sections.items())
    title = "Token-weighted GRPO: tables, figures and audit"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width,initial-scale=1'><style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1><nav>{links}</nav>{body}</body></html>\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Build one HTML page from run directories.")
    parser.add_argument("runs", nargs="+", help="directories that hold runs")
    parser.add_argument("--out", default="runs/report.html", help="the page")
    parser.add_argument("--seed", type=int, default=123, help="the runs to show, where there are several seeds")
    options = parser.parse_args(arguments)
    print(build(loading.load(*options.runs), options.out, options.seed))


if __name__ == "__main__":
    main()
