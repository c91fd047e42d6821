"""The shape of the house: which way imports point, and that all ways to install agree."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "sa_ah_lib"
MODULES = sorted(path.stem for path in LIBRARY.glob("*.py") if path.stem != "__init__")
HEAVY = {"torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate"}
# Modules that a laptop without torch must be able to import, and make every table and figure with.
LIGHT = {
    "config",
    "rewards",
    "stats",
    "runlog",
    "display",
    "data",
    "paper",
    "results",
    "loading",
    "tabular",
    "tables",
    "figure_data",
    "figures",
    "schematic",
    "claims",
    "audit_tables",
    "audit_text",
    "audit_method",
    "audit",
    "book",
    "report",
    "comparison",
    "seeds",
    "answer",
    "seed_figures",
    "versions",
    "arguments",
    "disk",
    "resume",
    "sweep",
    "sweep_grid",
    "sweep_backends",
    "sweep_cell",
}


def tree(module):
    return ast.parse((LIBRARY / f"{module}.py").read_text(encoding="utf-8"))


def imports(node, lazy):
    """Top-level names imported by a module; inside functions too where ``lazy``."""
    names = set()
    for child in ast.walk(node) if lazy else node.body:
        if isinstance(child, ast.Import):
            names |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            if child.module == "sa_ah_lib":
                names |= {f"sa_ah_lib.{alias.name}" for alias in child.names}
            else:
                names.add(child.module)
    return names


def closure(module, seen=()):
    """Every package that importing ``module`` imports, through the library's own modules."""
    found = imports(tree(module), lazy=False)
    own = {name.split(".")[1] for name in found if name.startswith("sa_ah_lib.")}
    return {name.split(".")[0] for name in found}.union(*(closure(m, {*seen, module}) for m in own - {*seen, module}))


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_figures_and_logs_need_no_torch(module):
    assert not closure(module) & HEAVY


def test_only_models_imports_unsloth():
    """Unsloth patches what was imported before it; two places that import it would race."""
    assert [m for m in MODULES if any(n.split(".")[0] == "unsloth" for n in imports(tree(m), lazy=True))] == ["models"]


def test_trl_is_imported_where_the_trainer_is_made():
    """TRL read before Unsloth patches it would be the stock trainer; lazily, in two modules, the order is kept."""
    users = {m for m in MODULES if any(n.split(".")[0] == "trl" for n in imports(tree(m), lazy=True))}
    assert users <= {"trainer", "training"}
    assert not [m for m in MODULES if any(n.split(".")[0] == "trl" for n in imports(tree(m), lazy=False))]


def test_unsloth_comes_before_torch():
    """Unsloth patches torch and transformers at import; after them it patches too late."""
    names = [n for node in tree("training").body for n in sorted(imports(ast.Module([node], []), lazy=False))]
    assert names.index("sa_ah_lib.models") < min(names.index(n) for n in names if n.split(".")[0] in HEAVY)
    assert ast.unparse(tree("models")).index("import unsloth") < ast.unparse(tree("models")).index("import torch")


def test_weighting_is_torch_and_nothing_else():
    assert closure("weighting") == {"math", "torch"}
    assert closure("controls") == {"math", "torch", "sa_ah_lib"}


def test_imports_point_one_way():
    """A cycle means that two modules are one."""
    own = {m: {n.split(".")[1] for n in imports(tree(m), lazy=False) if n.startswith("sa_ah_lib.")} for m in MODULES}
    done = set()
    while ready := [m for m in MODULES if m not in done and own[m] <= done]:
        done |= set(ready)
    assert done == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module):
    assert len((LIBRARY / f"{module}.py").read_text(encoding="utf-8").splitlines()) <= 285


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_says_what_it_does(module):
    body = tree(module).body
    public = [n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")]
    undocumented = [n.name for n in public if not ast.get_docstring(n)]
    assert ast.get_docstring(tree(module))
    assert undocumented in ([], ["main"])


# --- installation ----------------------------------------------------------------------------------------------------


def pins(lines):
    return dict(re.match(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines if "==" in line)


@pytest.fixture(scope="module")
def extras():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_tested_versions_are_the_installed_ones(extras):
    """Notebook 00 would tell users to install another set than the project does."""
    from sa_ah_lib import versions

    table = versions.PINNED.versions | versions.COMPANIONS
    installed = pins(extras["train"]) | pins((ROOT / "requirements-unsloth.txt").read_text().splitlines())
    assert {name: installed.get(name) for name in table} == table


def test_every_version_of_the_tested_set_is_exact(extras):
    for extra in ("train", "figures", "notebooks", "test"):
        loose = [line for line in extras[extra] if "==" not in line and not line.startswith("sa-ah-grpo[")]
        assert not loose


def test_conda_colab_and_make_install_the_same_files(extras):
    yaml = pytest.importorskip("yaml")
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["dependencies"][-1]["pip"] == ["-e .[train,notebooks,test]"]
    makefile = (ROOT / "Makefile").read_text()
    assert "EXTRAS := train,notebooks,test" in makefile
    colab = (ROOT / "notebooks" / "02_grpo.ipynb").read_text()
    assert "..[train,gpu]" in colab and {"train", "gpu", "notebooks", "test"} <= extras.keys()
    for text in ((ROOT / "environment.yml").read_text(), makefile, colab):
        assert "--no-deps -r" in text and "requirements-unsloth.txt" in text


def test_the_readme_names_only_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.M))
    assert named and named <= targets


def test_the_readme_s_pictures_and_notebooks_exist():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", readme):
        assert (ROOT / path).is_file()
    for name in re.findall(r"`(\d\d_\w+)`", readme):
        assert (ROOT / "notebooks" / f"{name}.ipynb").is_file()
