"""An index of a directory of tables and figures by the paper's numbers, with the pictures. Needs no torch."""

import re
from html import escape
from itertools import zip_longest
from pathlib import Path

from sa_ah_lib.analysis.results import LARGE_SCALES
from sa_ah_lib.analysis.table import DASH
from sa_ah_lib.report.figures import FIGURES

TABLES = ("table-1", "table-2", "table-3", "table-4", "table-5", "table-6", "table-7")
OURS = ("table-s1", "table-s2", "table-s3", "table-s4")
BOTH = ("paper", "measured")
"""The two sources, and the folders with tables of several models of one."""
ENDINGS = ("md", "csv", "tex", "png", "svg", "pdf")
NUMBERS = ("numbers", "pairs")
"""CSV files to compute with, beside a picture of comparisons."""
_CAPTION = re.compile(r"\*\*(?:Table \w+: )?(?P<title>.*?)[.,] (?P<origin>(?:paper|measured): .*)\*\*")
PUBLISHED = """# Tables and figures

In the order of the paper's tables and figures. Left: what the paper prints. Right: what our small models measured; they
stand in for the paper's two models and are not Qwen. A name that two folders share, such as `figure-1.png`, is one
figure of two sources: the folder says whose numbers it shows. `make figures` makes everything here from `logs/`, this
page included.
"""


OWN = """# Tables and figures

In the order of the paper's tables and figures. Left: what the paper prints. Right: what the runs measured; their model,
data, seed and device stand beside them. A name that two folders share, such as `figure-1.png`, is one figure of two
sources: the folder says whose numbers it shows.
"""


def save(directory: str | Path) -> Path:
    """Write ``README.md`` into ``directory``, an index of what ``Book`` and ``seed_figures`` wrote below it.

    Returns:
        the path of the index. What was not made is left out.
    """
    directory = Path(directory)
    folders = _folders(directory)
    # The published figures stand beside the logs that they are made from.
    parts = [PUBLISHED if (directory / "logs").is_dir() else OWN, _folder_table(directory, folders)]
    for start, names in (("The paper's tables", TABLES), ("The paper's figures and appendix", FIGURES), ("Ours", OURS)):
        sections = [part for name in names if (part := _section(directory, folders, name))]
        parts += [f"## {start}\n", *sections] if sections else []
    parts += [*_by_picture(directory, "preregistered", "Settled before the runs")]
    parts += [*_by_picture(directory, "board", "The board of rules")]
    parts += [*_by_picture(directory, "distance", "How far each rule moved")]
    parts += [*_seeds(directory), *_microscope(directory)]
    path = directory / "README.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _caption(path):
    """(title, origin) of a saved table, from the first line of its Markdown."""
    found = _CAPTION.match(path.read_text(encoding="utf-8").splitlines()[0])
    return (found["title"], found["origin"]) if found else (path.stem, "")


def _folders(directory):
    """{folder: source, model, data, seed, device and dates}, the paper's first, of all folders with a table."""
    found = {path.parent.name: _caption(path)[1] for path in sorted(directory.glob("*/table-*.md"))}
    order = sorted(found, key=lambda name: (not found[name].startswith("paper"), -len(_place(name)), name))
    return {name: found[name] for name in order}


def _folder_table(directory, folders):
    rows = [[f"`{name}/`", "several models; " * (name in BOTH) + what] for name, what in folders.items()]
    others = {
        "board/": "measured: every token-weight rule against GRPO, paired by warm start and seed",
        "distance/": "measured: how far each rule moved the policy, and GRPO as far",
        "preregistered/": "measured: the comparisons that were settled before their runs",
        "seeds/": "measured: methods over seeds, paired",
        "microscope/": "measured: what each rule does to the gradient of frozen rollouts, and to their tokens",
        "audit.md": "the paper's numbers held against each other; each of its claims by them and by our runs",
        "logs/": "the run directories that everything measured is made from",
    }
    rows += [[f"[`{name}`]({name})", what] for name, what in others.items() if (directory / name).exists()]
    return f"## Which folder is what\n\n{_table(['folder', 'what it holds'], rows)}\n"


def _section(directory, folders, name):
    """One table or figure: the paper's beside the measured ones, the large models above the small; "" if none is."""
    here = [folder for folder in folders if any(directory.glob(f"{folder}/{name}.*"))]
    if not here:
        return ""
    rows = []
    for place in ("3B, 1.5B", "3B", "1.5B"):
        members = [folder for folder in here if _place(folder) == place]
        sides = ([f for f in members if folders[f].startswith(source)] for source in BOTH)
        for pair in zip_longest(*sides):
            rows.append([place, *(_cell(directory, f, name, folders[f]) if f else DASH for f in pair)])
    title = FIGURES[name].title if name in FIGURES else _caption(directory / here[0] / f"{name}.md")[0]
    return f"### {name.replace('-', ' ').title()} · {title}\n\n{_table(['model', *BOTH], rows)}\n"


def _cell(directory, folder, name, origin):
    """Thumbnail where there is a picture, folder, origin and links to every form."""
    forms = [ending for ending in ENDINGS if (directory / folder / f"{name}.{ending}").exists()]
    files = {ending: f"{name}.{ending}" for ending in forms} | {kind: f"{name}-{kind}.csv" for kind in NUMBERS}
    there = {told: file for told, file in files.items() if (directory / folder / file).exists()}
    links = " · ".join(f"[{told}]({folder}/{file})" for told, file in there.items())
    seen = FIGURES[name].title if name in FIGURES else name.replace("-", " ")
    told = escape(f"{seen}. {origin or folder}", quote=True)
    picture = f"<img src='{folder}/{name}.png' width='240' alt='{told}'><br>" if "png" in forms else ""
    where = f"`{folder}/` {origin.partition(': ')[2]}<br>" if origin else ""
    return f"{picture}{where}{links}"


def _by_picture(directory, folder, heading):
    """A folder's pictures, one row each, with the tables whose names begin with the picture's."""
    pictures, tables = (
        [path.stem for path in sorted(directory.glob(f"{folder}/*.{ending}"))] for ending in ("png", "md")
    )
    of = {name: max((one for one in pictures if name.startswith(one)), key=len, default="") for name in tables}
    rows = []
    for picture in [*pictures, *[""] * ("" in of.values())]:
        cells = [f"{name}: {_cell(directory, folder, name, '')}" for name in tables if of[name] == picture]
        rows.append([_cell(directory, folder, picture, "") if picture else DASH, "<br>".join(cells) or DASH])
    return [f"## {heading}\n\n{_table(['picture', 'tables'], rows)}\n"] * bool(rows)


def _seeds(directory):
    """Every comparison over seeds: its table and its pictures."""
    names = [path.stem.removeprefix("seeds-") for path in sorted(directory.glob("seeds/seeds-*.md"))]
    parts = ["## Over seeds\n"] * bool(names)
    for name in names:
        title, origin = _caption(directory / "seeds" / f"seeds-{name}.md")
        kinds = [kind for kind in ("summary", "seeds", "profiles") if any(directory.glob(f"seeds/{kind}-{name}.png"))]
        cells = [[_cell(directory, "seeds", f"{kind}-{name}", "") for kind in kinds]]
        parts.append(f"### {name}\n\n{title.partition(':')[0]}, {origin}.\n\n{_table(kinds, cells)}\n")
    return parts


def _microscope(directory):
    """Every study of gradients and tokens: its table and its picture."""
    names = [path.stem for path in sorted(directory.glob("microscope/*.md"))]
    parts = ["## Gradients and tokens of frozen rollouts\n"] * bool(names)
    for name in names:
        title, origin = _caption(directory / "microscope" / f"{name}.md")
        cell = f"{_cell(directory, 'microscope', name, '')} · [every number](microscope/{name}-rows.csv)"
        parts.append(f"### {name}\n\n{title}, {origin}.\n\n{_table(['picture, table and data'], [[cell]])}\n")
    return parts


def _place(folder):
    """The paper's model that a folder's model is or stands in for."""
    scale = re.sub(r"-\d+$", "", folder.removeprefix("paper-"))
    return "3B, 1.5B" if scale in BOTH else "3B" if scale in LARGE_SCALES else "1.5B"


def _table(header, rows):
    # Without padding: cells hold links, and the longest would set the width of every line.
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)) + "\n"
