"""The notebooks as files: what papermill, Colab and a reviewer of a diff rely on."""

import ast
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

from sa_ah_lib.analysis.designs import PUBLISHED

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LIBRARY = Path(__file__).parents[2] / "sa_ah_lib"
METHODS = ("02_grpo", "03_ah_grpo", "04_sa_ah_grpo")
TABLES, BOARD = "07_tables_and_figures", "08_board"


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def python(source):
    """A cell without the shell and magic lines that only IPython reads."""
    return re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.M)


def parameters(notebook):
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


def test_all_notebooks_are_here():
    assert [path.stem[:2] for path in PATHS] == ["00", "01", "02", "03", "04", "05", "06", "07", "08"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
class TestEach:
    def test_is_valid(self, path):
        nbformat.validate(read(path))

    def test_has_one_parameters_cell_of_literals(self, path):
        """papermill passes values as text: an expression there would be evaluated before they come."""
        (cell,) = parameters(read(path))
        for statement in ast.parse(cell.source).body:
            assert isinstance(statement, ast.Assign)
            ast.literal_eval(statement.value)

    def test_papermill_finds_the_parameters(self, path):
        papermill = pytest.importorskip("papermill")
        assert {"SCALE", "RUNS", "DATA"} <= papermill.inspect_notebook(path).keys()

    def test_names_only_modules_that_are_there(self, path):
        """A name that is gone sends its reader looking."""
        for module in re.findall(r"`sa_ah_lib\.([\w.]+)`", path.read_text(encoding="utf-8")):
            assert LIBRARY.joinpath(*module.split(".")).with_suffix(".py").is_file(), module

    def test_holds_no_output(self, path):
        """Stored outputs are numbers that nobody measured with this code."""
        assert all(not cell.outputs and cell.execution_count is None for cell in code(read(path)))

    def test_holds_no_logic(self, path):
        """Code in cells is copied, and the copies drift."""
        # What %%writefile writes is a file of the reader's own.
        cells = [python(c.source) for c in code(read(path)) if not c.source.startswith("%%writefile")]
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try)
        assert not [n for source in cells for n in ast.walk(ast.parse(source)) if isinstance(n, kinds)]
        # Parameters are the reader's, and a paragraph of them is no logic.
        rest = [c.source for c in code(read(path)) if "parameters" not in c.metadata.get("tags", ())]
        lines = [line.strip() for source in rest for line in source.splitlines()]
        assert len([line for line in lines if line and not line.startswith("#")]) <= 56

    def test_ends_with_the_files_it_wrote(self, path):
        last = code(read(path))[-1].source
        shown = {"00_environment_check": "", "06_beyond_the_paper": "", TABLES: "display.paths(pages.paths)", BOARD: ""}
        assert shown.get(path.stem, "display.files") in last

    def test_06_begins_with_its_answer(self, path):
        """A question asked in the title and answered below ten tables, or in a sentence typed by hand."""
        if path.stem.startswith("06"):
            sources = [cell.source for cell in code(read(path))]
            made = [k for k, source in enumerate(sources) if "arms = comparison.arms(" in source]
            assert "answer.paragraph(compared)" in sources[made[0] + 1]

    def test_declares_what_make_passes(self, path):
        """papermill only warns of a parameter that the cell lacks, so `make demo SEED=1` would change nothing."""
        declared = {s.targets[0].id for s in ast.parse(parameters(read(path))[0].source).body}
        passed = {name: set(re.findall(r" -[pr] ([A-Z]+) ", text)) for name, text in recipes().items()}
        assert passed["notebooks"] == {"SCALE", "SEED", "STEPS", "DATA", "RUNS", "OUT"}
        assert passed["figures"] == {"SEED", "WIDTH", "RUNS", "OUT"}
        assert passed["notebooks"] - declared == (set() if path.stem in (TABLES, BOARD) else {"OUT"})
        assert path.stem != BOARD or passed["board"] <= declared
        assert path.stem != TABLES or passed["figures"] <= declared

    def test_explains_every_parameter(self, path):
        """A table that lacks one, or explains one that is gone, is worse than the dense block it replaced."""
        cells = read(path).cells
        declared = [s.targets[0].id for s in ast.parse(parameters(read(path))[0].source).body]
        rows = [line.split("|")[1:-1] for line in cells[1].source.splitlines() if line.startswith("| `")]
        assert [re.search(r"`(\w+)`", row[0])[1] for row in rows] == declared
        assert all(len(row) == 3 and row[1].strip() for row in rows)
        examples = [row[2].strip().strip("`") for row in rows if row[2].strip()]
        assert all(ast.literal_eval(example) is not None for example in examples)

    def test_auto_means_one_thing(self, path):
        meaning = "`auto` is `qwen2.5-1.5b` where a GPU is and `micro-s` where none is"
        assert meaning in read(path).cells[1].source

    def test_says_what_to_open_next(self, path):
        last = read(path).cells[-1]
        assert last.cell_type == "markdown" and last.source.startswith("## Next")

    def test_imports_the_library_and_no_notebook(self, path):
        """A notebook that runs another one hides what it hangs on."""
        source = "\n".join(cell.source for cell in code(read(path)))
        assert not re.search(r"%run|\.ipynb|import_ipynb|nbimporter", source)
        names = {n for node in ast.walk(ast.parse(python(source))) for n in imported(node)}
        in_colab = {"glob", "os", "shutil", "urllib.request", "colab_setup"}
        assert {n for n in names if n.split(".")[0] != "sa_ah_lib"} <= {"sys"} | in_colab

    def test_calls_only_what_the_library_has(self, path):
        """A renamed function would be met in the last cell, after hours of training."""
        tree = ast.parse(python("\n".join(cell.source for cell in code(read(path)))))
        own = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("sa_ah_lib.")]
        rooms = {a.name: LIBRARY.parent / node.module.replace(".", "/") for node in own for a in node.names}
        modules = {name: path / f"{name}.py" for name, path in rooms.items() if (path / f"{name}.py").is_file()}
        attributes = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
        called = {(n.value.id, n.attr) for n in attributes if n.value.id in modules}
        assert called and not {(m, name) for m, name in called if name not in defined(modules[m])}


def recipes():
    """{target: its recipe} of the Makefile, continued lines joined."""
    makefile = (LIBRARY.parent / "Makefile").read_text().replace("\\\n", " ")
    return dict(re.findall(r"^([\w-]+):.*\n((?:\t.*\n)+)", makefile, re.M))


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def defined(module):
    """Names that a library module's file gives, read without importing it (some import unsloth)."""
    body = ast.parse(module.read_text()).body
    targets = [t for n in body if isinstance(n, ast.Assign) for target in n.targets for t in ast.walk(target)]
    assigned = {t.id for t in targets if isinstance(t, ast.Name)}
    return assigned | {n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


def test_make_runs_every_notebook():
    """A notebook that `make demo` leaves out is never executed before a reader does."""
    makefile = (LIBRARY.parent / "Makefile").read_text()
    variables = ("NOTEBOOKS", "TABLES", "BOARD")
    named = [re.search(rf"^{variable} := (.*)$", makefile, re.M)[1] for variable in variables]
    assert " ".join(named).split() == [path.stem for path in PATHS]
    assert "$(NOTEBOOKS:%=notebooks/%.ipynb) notebooks/$(TABLES).ipynb" in recipes()["notebooks"]
    assert "notebooks/$(BOARD).ipynb" in recipes()["board"]


def test_the_method_notebooks_differ_in_title_and_parameters_only():
    """A fix made in one of three copies is the oldest accident of notebooks."""
    notebooks = [read(path) for path in PATHS if path.stem in METHODS]
    rests = [[(c.cell_type, c.source) for c in n.cells[1:] if c not in parameters(n)] for n in notebooks]
    assert rests[0] == rests[1] == rests[2]
    differing = {re.sub(r'METHOD = ".*"', "METHOD", parameters(n)[0].source) for n in notebooks}
    assert len(differing) == 1


def test_the_lengths_of_the_published_comparisons_are_those_of_the_library():
    """A reader's STEPS = 0 trained another number than the page said."""
    beyond, board = (parameters_of(name) for name in ("06_beyond_the_paper", BOARD))
    for scale, design in PUBLISHED.items():
        assert f"`{scale}` {design.steps}" in beyond
    assert "40 on `micro-legs`, 60 on `micro-sum`" in board
    assert (PUBLISHED["micro-legs"].steps, PUBLISHED["micro-sum"].steps) == (40, 60)


def parameters_of(name):
    """The row of STEPS in a notebook's table of parameters."""
    (path,) = (path for path in PATHS if path.stem == name)
    (line,) = (line for line in read(path).cells[1].source.splitlines() if line.startswith("| `STEPS`"))
    return line
