"""One self-contained HTML page from run logs: tables, figures, statistics, audit, heat-maps. Needs no torch.

``python -m sa_ah_lib.report.html_report RUNS... --out report.html`` is the thing to send to a colleague.
"""

import argparse
import html
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sa_ah_lib.analysis import answer, loading
from sa_ah_lib.analysis.compared import Compared
from sa_ah_lib.analysis.comparison import by_family
from sa_ah_lib.analysis.extraction import extraction
from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.paper import audit, printed
from sa_ah_lib.report import display, figures, own_tables, paper_tables, seed_figures
from sa_ah_lib.report.book import Book, image

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.6rem 0;font-size:13px;display:block;overflow-x:auto}
th,td{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:right;vertical-align:top}
td:first-child{white-space:nowrap}th{border-bottom:2px solid #888}
nav a{margin-right:1rem}h2{border-top:1px solid #ccc;padding-top:1rem}
code{font-size:12px;line-height:1.9}img{max-width:100%}p{max-width:60rem}
"""
PER_FAMILY = (paper_tables.checkpoints, paper_tables.alphas, paper_tables.diagnostics)
STATISTICS = (own_tables.comparisons, own_tables.peaks, own_tables.variances, extraction)


def build(everything_found: loading.Found, out: str | Path, seed: int = 123) -> Path:
    """Write the page for ``loading.Found`` to ``out``; its path.

    The paper's numbers come first in every section, the measured ones of ``seed`` after them, each captioned with its
    source; then comparisons over all seeds.
    """
    found = everything_found.of_seed(seed)
    published = [printed.family(scale) for scale in (printed.LARGE, printed.SMALL)]
    trained = [family for family in found.families if family.methods]
    everything = published + trained
    with tempfile.TemporaryDirectory() as scratch:
        pages = Book(scratch)
        sections = {
            "Sources": [found._repr_html_()],
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
            "Seeds": _seeds(everything_found.results, scratch),
            "Rollouts": [_heat_maps(family) for family in trained],
            "Audit": [f"<p>{html.escape(audit.LEGEND)}</p>", audit.html(everything_found.results)],
        }  # fmt: skip
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(_page(sections), encoding="utf-8")
    return out


def _seeds(results, scratch):
    """Every comparison of two seeds or more: table, figure, the answer in words."""
    parts = []
    for name, arms in by_family(results).items():
        compared = Compared.of(arms)
        parts += [f"<h3>{html.escape(name)}</h3><p>{html.escape(answer.paragraph(compared))}</p>"]
        parts += [compared.table(metric)._repr_html_() for metric in compared.metrics]
        for paths in seed_figures.save(compared, scratch, name, kinds=("summary",)).values():
            parts.append(image(paths[0], "double", f"paired differences from GRPO, {name}"))
    return parts or ["<p>No method was run with two seeds or more.</p>"]


def _heat_maps(family):
    """The last sampled good and bad rollout of each method, token by token."""
    maps = [f"<h4>{METHOD_LABELS[m]}</h4>{display.heat_map(result)}" for m, result in family.methods.items()]
    return f"<h3>{html.escape(family.caption)}</h3>{''.join(maps)}"


def _page(sections):
    links = "".join(f"<a href='#{name.lower()}'>{name}</a>" for name in sections)
    body = "".join(f"<h2 id='{name.lower()}'>{name}</h2>{''.join(parts)}" for name, parts in sections.items())
    title = "Token-weighted GRPO: tables, figures and audit"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head>"
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
