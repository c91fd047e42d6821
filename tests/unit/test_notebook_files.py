"""The notebooks as files: what papermill, Colab and a reviewer of a diff rely on."""

import ast
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LIBRARY = Path(__file__).parents[2] / "sa_ah_lib"
METHODS = ("02_grpo", "03_ah_grpo", "04_sa_ah_grpo")
TABLES = "07_tables_and_figures"


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
    assert [path.stem[:2] for path in PATHS] == ["00", "01", "02", "03", "04", "05", "06", "07"]


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

    def test_holds_no_output(self, path):
        """Stored outputs are numbers that nobody measured with this code."""
        assert all(not cell.outputs and cell.execution_count is None for cell in code(read(path)))

    def test_holds_no_logic(self, path):
        """Code in cells is copied, and the copies drift."""
        cells = [python(cell.source) for cell in code(read(path))]
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try)
        assert not [n for source in cells for n in ast.walk(ast.parse(source)) if isinstance(n, kinds)]
        assert sum(1 for source in cells for line in source.splitlines() if line.strip()) <= 60

    def test_ends_with_the_files_it_wrote(self, path):
        last = code(read(path))[-1].source
        shown = {"00_environment_check": "", "06_beyond_the_paper": "", TABLES: "display.paths(pages.paths)"}
        assert shown.get(path.stem, "display.files") in last

    def test_06_ends_with_its_answer(self, path):
        """A question asked in the title and answered nowhere, or answered in a sentence typed by hand."""
        if path.stem.startswith("06"):
            assert "answer.paragraph(arms)" in code(read(path))[-1].source

    def test_declares_what_make_passes(self, path):
        """papermill only warns of a parameter that the cell lacks, so `make demo SEED=1` would change nothing."""
        variable = "TABLES" if path.stem == TABLES else "name"
        commands = [
            c
            for c in recipe_commands()
            if f"notebooks/$({variable}).ipynb" in c or f"notebooks/$${variable}.ipynb" in c
        ]
        declared = {s.targets[0].id for s in ast.parse(parameters(read(path))[0].source).body}
        passed = [set(re.findall(r" -[pr] ([A-Z]+) ", command)) for command in commands]
        assert all(names <= declared for names in passed)
        if path.stem == TABLES:
            assert passed == [{"SCALE", "SEED", "RUNS", "OUT"}, {"SEED", "WIDTH", "RUNS"}]
        else:
            assert passed == [{"SCALE", "SEED", "STEPS", "DATA", "RUNS"}]

    def test_imports_the_library_and_no_notebook(self, path):
        """A notebook that runs another one hides what it hangs on."""
        source = "\n".join(cell.source for cell in code(read(path)))
        assert not re.search(r"%run|\.ipynb|import_ipynb|nbimporter", source)
        names = {n for node in ast.walk(ast.parse(python(source))) for n in imported(node)}
        in_colab = {"glob", "os", "shutil", "urllib.request", "colab_setup"}
        assert {n for n in names if n.split(".")[0] != "sa_ah_lib"} <= {"sys", "matplotlib.pyplot"} | in_colab

    def test_calls_only_what_the_library_has(self, path):
        """A renamed function would be met in the last cell, after hours of training."""
        tree = ast.parse(python("\n".join(cell.source for cell in code(read(path)))))
        own = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("sa_ah_lib.")]
        rooms = {a.name: LIBRARY.parent / node.module.replace(".", "/") for node in own for a in node.names}
        modules = {name: path / f"{name}.py" for name, path in rooms.items() if (path / f"{name}.py").is_file()}
        attributes = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
        called = {(n.value.id, n.attr) for n in attributes if n.value.id in modules}
        assert called and not {(m, name) for m, name in called if name not in defined(modules[m])}


def recipe_commands():
    """The Makefile's papermill commands, continued lines joined."""
    makefile = (LIBRARY.parent / "Makefile").read_text().replace("\\\n", " ")
    return [line for line in makefile.splitlines() if "bin/papermill" in line or "-p SCALE" in line]


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
    named = [re.search(rf"^{variable} := (.*)$", makefile, re.M)[1] for variable in ("NOTEBOOKS", "TABLES")]
    assert " ".join(named).split() == [path.stem for path in PATHS]


def test_the_method_notebooks_differ_in_title_and_parameters_only():
    """A fix made in one of three copies is the oldest accident of notebooks."""
    notebooks = [read(path) for path in PATHS if path.stem in METHODS]
    rests = [[(c.cell_type, c.source) for c in n.cells[1:] if c not in parameters(n)] for n in notebooks]
    assert rests[0] == rests[1] == rests[2]
    differing = {re.sub(r'METHOD = ".*"', "METHOD", parameters(n)[0].source) for n in notebooks}
    assert len(differing) == 1
