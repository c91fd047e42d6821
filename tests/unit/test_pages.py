"""Numbers on the pages: those of the published logs; and pages name what is there."""

import re
from pathlib import Path

import pytest
from made_runs import made_of

from sa_ah_lib.analysis import loading, preregistered
from sa_ah_lib.report import pages

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


@pytest.fixture(scope="module")
def published():
    return loading.load(ROOT / "figures" / "logs")


def with_blocks():
    """Pages with generated blocks, README included where it has some."""
    texts = {page: page.read_text(encoding="utf-8") for page in [*DOCS, ROOT / "README.md"]}
    return [page for page, text in texts.items() if pages.BLOCK.search(text)]


@pytest.mark.slow
def test_committed_blocks_are_those_of_the_published_logs(published):
    """A number typed, or left from older logs; `make figures` writes them anew."""
    assert {page.name for page in with_blocks()} >= {"results.md", "metrics.md"}
    for page in with_blocks():
        text = page.read_text(encoding="utf-8")
        assert pages.fill(text, published) == text, page.name


def test_make_figures_fills_every_page_with_blocks():
    """A page that is left out of the recipe keeps the numbers of its day."""
    (recipe,) = re.findall(r"--pages (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert set(recipe.split()) == {str(page.relative_to(ROOT)) for page in with_blocks()}


def test_an_unknown_block_is_an_error_and_filling_twice_changes_nothing(published):
    with pytest.raises(ValueError, match="comparisons.*'sumary'"):
        pages.fill("<!-- made: sumary -->\n<!-- end -->", published)
    once = pages.fill("before\n<!-- made: metrics -->\nout of date\n<!-- end -->\nafter\n", published)
    assert pages.fill(once, published) == once
    assert "out of date" not in once and "`sa_ah/entropy`" in once
    assert once.startswith("before\n") and once.endswith("after\n")


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_names_only_what_exists(page):
    """A command or file that is gone is met by the reader who needs it."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|[`;(] ?)make ([a-z-]+)", text, re.M))
    assert named <= TARGETS, named - TARGETS
    for path in re.findall(r"`((?:sa_ah_lib|tests|notebooks|figures|docs)/[\w./-]+)`?", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m sa_ah_lib\.([\w.]+)", text):
        path = ROOT / "sa_ah_lib" / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_the_navigation_lists_every_page():
    """A page that the navigation lacks is found by nobody."""
    listed = re.findall(r"^ +- ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(page.name for page in DOCS)


def test_a_run_that_two_designs_ask_for_stands_once_among_what_was_learnt():
    configs = {c: None for name in ("smollm2-seeds", "smollm2-steps") for c in preregistered.configurations(name)}
    runs = [made_of(config, 250) for config in configs]
    for run in runs:
        for row in run.eval:
            row.update(truncated=False, tokens=8)
    found = loading.Found(runs, [])
    rows = pages.learnt(found).strip().splitlines()[2:]
    cells = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    assert len(cells) == len(set(cells)) == 24
    assert {cell[1] for cell in cells} == {"GRPO", "AH-GRPO", "GRPO, 2 × step"} and cells[0][3] == "0.2 to 0.5"
    found = loading.Found([run for run in runs if run.config.method == "grpo"], [])
    assert pages.learnt(found) == pages.by_kind(found) == "The runs are not finished."
