"""The documentation as a reader meets it: built strictly, opened in a browser on a desk and on a phone, no network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import pytest

pytest.importorskip("mkdocs_jupyter")
pytest.importorskip("latex2mathml")
pytest.importorskip("papermill")

from sa_ah_lib.report import gallery

ROOT = Path(__file__).parents[2]
PAGES = ("index.html", "results.html", "rules/gtpo.html", "gallery/07_tables_and_figures.html", "architecture.html")
# What fetches something when a page is shown, as opposed to a link that a reader may follow.
FETCHED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(https?:)?//|<link\b[^>]*\bhref=\"?(https?:)?//")
IN_STYLE = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with one notebook in its gallery, in a folder of its own, built with --strict."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("gallery", "__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", folder)
    gallery.build(folder / "docs" / "gallery", ROOT / "figures" / "logs", folder / "work", ["07"])
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder / "site")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "site"


@pytest.fixture(scope="module")
def served(site):
    with browser.served(site) as address:
        yield address


def test_a_notebook_whose_runs_are_not_published_is_a_smoke_run_that_says_so(tmp_path):
    """Hours of training would hide in `make docs`, or numbers of two steps pass for results."""
    notebook = ROOT / "notebooks" / "02_grpo.ipynb"
    given, note = gallery._settings(notebook, ROOT / "figures" / "logs", tmp_path)
    assert "STEPS" not in given and "nothing was trained" in note
    given, note = gallery._settings(notebook, tmp_path, tmp_path)
    assert given["STEPS"] == gallery.SMOKE_STEPS and "numbers mean nothing" in note
    with pytest.raises(ValueError, match="02_grpo.*'9'"):
        gallery._chosen(["9"])


def test_every_run_that_the_notebooks_show_is_published():
    for method, fields in (run for runs in gallery.NEEDS.values() for run in runs):
        run_id = gallery.preset(gallery.SCALE, method, seed=gallery.SEED, **fields).run_id
        assert (ROOT / "figures" / "logs" / run_id / "finished.json").is_file()


@pytest.mark.slow
@pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium on PATH")
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_their_screen_and_fetch_nothing(site, served, tmp_path, width):
    """A table that widens a phone's page makes every line of it unreadable; a font from elsewhere fails offline."""
    for page in PAGES:
        found = browser.seen(site, served, tmp_path, page, width)
        assert found["title"] and not found["title"].startswith("Error"), page
        assert found["width"] <= width, f"{page}: {found['width']} pixels wide, by {found['wide']}"
        assert not found["foreign"], f"{page} fetches {found['foreign']}"
        assert not found["broken"], f"{page} lacks pictures: {found['broken']}"


@pytest.mark.slow
@pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium on PATH")
def test_a_screenshot_is_a_page_and_not_a_blank(site, served, tmp_path):
    """A page that a script leaves empty passes every check of its width."""
    from matplotlib.image import imread

    for page in PAGES:
        picture = tmp_path / "page.png"
        browser.browse(f"{served}/{page}", tmp_path / "profile", "--window-size=1280,1600", f"--screenshot={picture}")
        pixels = imread(picture)[..., :3]
        assert pixels.shape[:2] == (1600, 1280) and pixels.std() > 0.05, page


@pytest.mark.slow
def test_no_page_or_style_names_another_host_to_fetch_from(site):
    for page in site.rglob("*.html"):
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S)
        assert not FETCHED.search(text), f"{page.relative_to(site)}: {FETCHED.search(text)[0]}"
    for style in site.rglob("*.css"):
        assert not IN_STYLE.search(style.read_text(encoding="utf-8")), style.relative_to(site)


@pytest.mark.slow
def test_equations_are_shown_and_not_their_source(site):
    """Without a script of elsewhere, LaTeX would stand there as it is typed."""
    card = (site / "rules" / "gtpo.html").read_text(encoding="utf-8")
    assert "<math" in card and "\\sum" not in card and "$$" not in card
    notebook = (site / "gallery" / "07_tables_and_figures.html").read_text(encoding="utf-8")
    assert "Executed when this page was built" in notebook and str(ROOT) not in notebook
