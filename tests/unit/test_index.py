"""The index of figures/: every file is in it, every link leads somewhere, and the sources stay apart."""

import re
from pathlib import Path

import pytest
from families import write_protocol, write_run

from sa_ah_lib.analysis import loading
from sa_ah_lib.config import preset
from sa_ah_lib.paper import printed
from sa_ah_lib.report import book, index, paper_tables, seed_figures

COMMITTED = Path(__file__).parents[2] / "figures"


def test_the_page_of_one_s_own_runs_does_not_speak_of_ours(made, tmp_path):
    """Beside runs of Qwen on a card it said that small models stand in for Qwen."""
    assert "not Qwen" not in made.read_text(encoding="utf-8") and "not Qwen" in (COMMITTED / "README.md").read_text()


def links(page):
    """Every file that the page shows or leads to."""
    return re.findall(r"\]\(([^)]+)\)", page) + re.findall(r"src='([^']+)'", page)


def section(page, title):
    return page.split(f"### {title}", 1)[1].split("\n#", 1)[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory as notebook 07 makes it, of some tables and figures, and its index."""
    parent = tmp_path_factory.mktemp("index")
    write_protocol(parent / "runs")
    measured = loading.load(parent / "runs").families
    published = [printed.family(printed.LARGE), printed.family(printed.SMALL)]
    pages = book.Book(parent / "made")
    for families in (published, measured):
        pages.table(paper_tables.summary, families, together=True)
        pages.table(paper_tables.checkpoints, families)
        for name in ("figure-1", "figure-3", "figure-a1"):
            pages.figure(name, families)
    return index.save(parent / "made")


@pytest.mark.parametrize("directory", ["made", COMMITTED], ids=["made", "committed"])
def test_every_link_leads_somewhere_and_every_file_is_linked(made, directory):
    """A figure that the index lacks is one that nobody finds."""
    directory = made.parent if directory == "made" else directory
    found = set(links((directory / "README.md").read_text(encoding="utf-8")))
    assert [link for link in found if not (directory / link).exists()] == []
    files = {str(path.relative_to(directory)) for path in directory.glob("*/*.*") if path.parent.name != "logs"}
    assert len(files) > 20 and files - found == set()


def test_the_paper_stands_left_and_ours_right_in_the_row_of_its_model(made):
    """`figure-1.png` is the name of two pictures: under the other's heading it is the worst mislabelling."""
    page = made.read_text(encoding="utf-8")
    three, a1 = section(page, "Figure 3"), section(page, "Figure A1")
    assert "### Figure 3 · SA-AH-GRPO, Pass@1\n\n| model | paper | measured |" in page
    rows = [line.strip("| ").split(" | ") for line in three.splitlines() if line.startswith("| 1.5B")]
    ((place, paper, ours),) = rows
    assert place == "1.5B" and "paper-qwen2.5-1.5b/figure-3.png" in paper and "micro-s/figure-3.png" in ours
    assert "width='240'" in paper and "[pdf](paper-qwen2.5-1.5b/figure-3.pdf)" in paper
    assert [line[:6] for line in a1.splitlines()[4:] if line.startswith("|")] == ["| 3B |", "| 1.5B"]
    assert a1.splitlines()[4].endswith("| — |")
    for folder, source in (("paper", "paper"), ("micro-s", "measured"), ("paper-qwen2.5-3b", "paper")):
        assert re.search(rf"^\| `{folder}/` \| (several models; )?{source}: ", page, re.M)


def test_only_what_was_made_is_named(made):
    """A heading over nothing looks like a figure that was lost."""
    page = made.read_text(encoding="utf-8")
    for absent in ("### Figure 2", "### Figure 4", "[`logs/`]", "Over seeds", "## Ours"):
        assert absent not in page
    titles = [page.index(f"### {title} ·") for title in ("Table 2", "Table 3", "Table 4", "Figure 1", "Figure A1")]
    assert titles == sorted(titles)


def test_comparisons_over_seeds_are_shown(tmp_path):
    for seed in (1, 2):
        for method in ("grpo", "sa-ah-grpo"):
            write_run(tmp_path / "runs", preset("micro-s", method, seed=seed, steps=30, eval_examples=40))
    seed_figures.save_all(loading.load(tmp_path / "runs").results, tmp_path / "seeds")
    page = section(index.save(tmp_path).read_text(encoding="utf-8"), "micro-s-30steps-a0.5")
    for kind in ("summary", "seeds", "profiles"):
        assert f"src='seeds/{kind}-micro-s-30steps-a0.5.png'" in page
    assert "Methods over seeds, measured: micro-s" in page and "[tex](seeds/seeds-micro-s-30steps-a0.5.tex)" in page


def test_every_picture_of_a_folder_has_its_own_row_and_tables(tmp_path):
    """Eighteen columns in one row; and one design's name begins another's."""
    (tmp_path / "preregistered").mkdir()
    for name in ("sum.png", "sum-steps.png", "sum-auc.md", "sum-steps-auc.md", "legs-auc.md"):
        (tmp_path / "preregistered" / name).write_text("")
    page = index.save(tmp_path).read_text(encoding="utf-8").split("## Settled before the runs\n\n")[1]
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert rows[0] == "| picture | tables |" and len(rows) == 5
    assert "sum-steps.png" in rows[2] and "sum-steps-auc.md" in rows[2] and "/sum-auc.md" not in rows[2]
    assert "/sum.png" in rows[3] and "/sum-auc.md" in rows[3] and "sum-steps-auc.md" not in rows[3]
    assert rows[4].startswith("| — | legs-auc: ")
