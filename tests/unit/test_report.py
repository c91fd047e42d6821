"""The gallery page: one file that a colleague opens without a network."""

import base64
import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("matplotlib")
import browser
from families import write_protocol, write_run

from sa_ah_lib.analysis import loading
from sa_ah_lib.config import preset
from sa_ah_lib.report import html_report, seed_figures

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Tags that are still open, and every address that a browser would fetch."""

    VOID = {"meta", "img", "hr", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    write_protocol(runs, sweep=(0.25,))
    for seed in (1, 2):
        for method in ("grpo", "sa-ah-grpo"):
            write_run(runs, preset("micro-s", method, seed=seed, steps=30, eval_examples=40))
    return runs


@pytest.fixture(scope="module")
def page(runs):
    return html_report.build(loading.load(runs), runs / "pages" / "report.html").read_text(encoding="utf-8")


def test_is_whole_and_needs_no_network(page):
    """A font or script from elsewhere leaves holes behind a firewall; an unclosed table swallows what follows."""
    parsed = Page(page)
    assert not parsed.open
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in parsed.addresses)
    assert "<script" not in page and "@import" not in page and "url(" not in page


def test_holds_every_section_with_both_sources(page):
    """A section that fell out is missed by nobody until it is asked for."""
    for name in ("Finding", "Claims", "Seeds", "Tables", "Figures", "Statistics", "Rollouts", "Audit", "Sources"):
        assert f"<h2 id='{name.lower()}'>{name}</h2>" in page and f"href='#{name.lower()}'" in page
    captions = re.findall(r"<b>Table \d: [^<]*</b>", page)
    assert any("paper: Qwen" in c for c in captions) and any("measured: micro-s" in c for c in captions)
    for text in ("micro-s-30steps-a0.5", "paired", "undecidable", "positive rollout", "Why it matters"):
        assert text in page


def test_it_opens_with_what_was_found_and_ends_with_the_names_of_runs(page):
    """A colleague who opens it reads the first screen; run ids are for who looks them up."""
    order = [page.index(f"<h2 id='{name}'>") for name in ("finding", "claims", "tables", "sources")]
    assert order == sorted(order) and "-seed" not in page[: order[1]]
    assert "SA-AH-GRPO" in page[order[0] : order[1]] and "<img" in page[order[0] : order[1]]


@pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium on PATH")
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_its_screen(page, runs, tmp_path, width):
    """A table or a line of links that widens a phone's page makes every line of it unreadable."""
    with browser.served(runs / "pages") as address:
        found = browser.seen(runs / "pages", address, tmp_path, "report.html", width)
    assert found["width"] <= width, f"{found['width']} pixels wide, by {found['wide']}"
    assert not found["broken"] and not found["foreign"]


def test_the_pictures_over_seeds_are_those_of_make_figures(page, runs, tmp_path):
    """Outside the project's style fonts grow and labels run into one another."""
    seed_figures.save_all(loading.load(runs).results, tmp_path)
    picture = (tmp_path / "summary-micro-s-30steps-a0.5.png").read_bytes()
    assert base64.b64encode(picture).decode() in page


def test_says_where_there_are_no_seeds(tmp_path):
    """An empty section looks like a mistake of the page."""
    path = html_report.build(loading.load(tmp_path), tmp_path / "report.html")
    assert "No method was run with two seeds or more" in path.read_text(encoding="utf-8")
