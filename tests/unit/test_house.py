"""The shape of the house: which way imports point, and that the README names what is there."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "sa_ah_lib"
FILES = {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path for path in LIBRARY.rglob("*.py")}
# The door of a room is called what the room is, as imports call it.
FILES = {name.removesuffix(".__init__"): path for name, path in FILES.items() if name != "__init__"}
MODULES = sorted(FILES)
HEAVY = {"torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate"}
LEVELS = (
    {"rulebook"},
    {"config", "rewards", "weighting"},
    {"rules", "upstream"},
    {"trainer"},
    {"train"},
    {"analysis", "micro", "microscope", "sweep"},
    {"paper", "export", "enter"},
    {"report"},
    {"gpu_card", "gpu_pack"},
)
"""Rooms from the ground up. A room imports from levels below its own, and from itself."""
# Rooms and modules that a laptop without torch must be able to import, and make every table and figure with.
LIGHT_ROOMS = {"config", "rewards", "rulebook", "analysis", "paper", "report", "sweep", "gpu_card", "gpu_pack"}
LIGHT = {m for m in MODULES if m.split(".")[0] in LIGHT_ROOMS}
LIGHT |= {"train.data", "train.disk", "train.publish", "train.resume", "train.reuse", "train.runlog"}
LIGHT |= {"train.progress", "train.scales", "train.smollm2", "upstream.metrics"}
LIGHT |= {"upstream.settings", "upstream.versions", "upstream.machine"}


def room(module):
    return module.split(".")[0]


@functools.cache
def tree(module):
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imports(node, lazy):
    """Dotted names that a module imports; inside functions too where ``lazy``. Own modules are named in full."""
    names = set()
    for child in ast.walk(node) if lazy else node.body:
        if isinstance(child, ast.Import):
            names |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            inner = {f"{child.module}.{alias.name}" for alias in child.names}
            modules = {name for name in inner if name.removeprefix("sa_ah_lib.") in MODULES}
            names |= modules or {child.module}
    return names


@functools.cache
def own_imports(module, lazy=False):
    """Modules of this library that a module imports."""
    found = imports(tree(module), lazy)
    return {n.removeprefix("sa_ah_lib.") for n in found if n.startswith("sa_ah_lib.")} & set(MODULES)


def closure(module, seen=()):
    """Every package that importing ``module`` imports, through the library's own modules."""
    found = {name.split(".")[0] for name in imports(tree(module), lazy=False)}
    return found.union(*(closure(m, {*seen, module}) for m in own_imports(module) - {*seen, module}))


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_figures_and_logs_need_no_torch(module):
    assert not closure(module) & HEAVY


def test_only_models_imports_unsloth():
    """Unsloth patches what was imported before it; two places that import it would race."""
    users = [m for m in MODULES if any(n.split(".")[0] == "unsloth" for n in imports(tree(m), lazy=True))]
    assert users == ["train.models"]


def test_trl_is_imported_where_the_trainer_is_made():
    """TRL read before Unsloth patches it would be the stock trainer; lazily, in two modules, the order is kept."""
    users = {m for m in MODULES if any(n.split(".")[0] == "trl" for n in imports(tree(m), lazy=True))}
    assert users == {"trainer", "train.arguments"}
    assert not [m for m in MODULES if any(n.split(".")[0] == "trl" for n in imports(tree(m), lazy=False))]


def test_unsloth_comes_before_torch():
    """Unsloth patches torch and transformers at import; after them it patches too late."""
    for module in ("train.training", "train.arguments", "train.ask", "export.formats"):
        names = [n for node in tree(module).body for n in sorted(imports(ast.Module([node], []), lazy=False))]
        assert names.index("sa_ah_lib.train.models") < min(names.index(n) for n in names if n.split(".")[0] in HEAVY)
    source = ast.unparse(tree("train.models"))
    assert source.index("import unsloth") < source.index("import torch")


def test_weighting_is_torch_and_nothing_else():
    assert closure("weighting") - {"collections", "typing"} == {"math", "torch"}


def test_a_rule_is_torch_and_nothing_else():
    """A rule that reads a trainer, a configuration or a file cannot be replayed on logged rollouts."""
    light = {"sa_ah_lib", "math", "collections", "dataclasses", "typing"}
    for module in MODULES:
        if room(module) in ("rulebook", "rules"):
            assert closure(module) <= light | ({"torch"} if room(module) == "rules" else set())


def test_imports_point_one_way_between_rooms():
    """A corridor that points up, lazily too, is how a circle begins."""
    level = {name: height for height, names in enumerate(LEVELS) for name in names}
    assert {room(m) for m in MODULES} <= level.keys()
    up = [
        f"{m} -> {other}"
        for m in MODULES
        for other in own_imports(m, lazy=True)
        if room(other) != room(m) and level[room(other)] >= level[room(m)]
    ]
    assert up == []


def test_the_picture_of_the_rooms_shows_every_room_on_its_floor():
    """A room that is not in the picture is one that a newcomer does not find."""
    drawn = re.findall(r'y="(\d+)"[^>]*font-weight="bold"[^>]*>([\w.]+)</text>', (ROOT / "docs/rooms.svg").read_text())
    floors = {}
    for height, name in drawn:
        floors.setdefault(int(height), set()).add(name.removesuffix(".py"))
    assert tuple(floors[height] for height in sorted(floors, reverse=True)) == LEVELS


def test_imports_make_no_circle_within_a_room():
    """A circle means that two modules are one."""
    own = {m: own_imports(m, lazy=True) for m in MODULES}
    done = set()
    while ready := [m for m in MODULES if m not in done and own[m] <= done]:
        done |= set(ready)
    assert done == set(MODULES)


def test_the_door_shows_what_the_project_is():
    assert {path.stem for path in LIBRARY.glob("*.py")} == {"__init__", "trainer", "weighting"}


def test_the_public_names_need_no_torch_until_they_are_used():
    """``import sa_ah_lib`` before ``import unsloth`` would load torch before it is patched."""
    script = (
        "import sys, sa_ah_lib; sa_ah_lib.preset('micro-s', 'grpo'); sa_ah_lib.SEAM_ARGUMENTS; dir(sa_ah_lib)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), set(sa_ah_lib.__all__) <= set(dir(sa_ah_lib)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[] True", done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_says_what_it_does(module):
    body = tree(module).body
    public = [n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")]
    undocumented = [n.name for n in public if not ast.get_docstring(n)]
    assert ast.get_docstring(tree(module))
    assert undocumented in ([], ["main"])


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_says_what_it_takes_and_gives(module):
    """A parameter without a type is guessed from the body, and no checker sees a wrong call."""
    body = tree(module).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    functions = [n for n in [*body, *(n for c in classes for n in c.body)] if isinstance(n, ast.FunctionDef)]
    open_ended = []
    for function in (f for f in functions if not f.name.startswith("_")):
        taken = function.args
        named = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
        untyped = [a.arg for a in named if a and a.annotation is None and a.arg not in ("self", "cls")]
        open_ended += [(function.name, untyped)] if untyped or function.returns is None else []
    assert open_ended == []


# --- installation: tests/unit/test_install.py has the rest ------------------------------------------------------------


@pytest.fixture(scope="module")
def extras():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_usual_installation_has_no_ray(extras):
    """It is large, and only a sweep needs it."""

    def everything(extra):
        inner = [name for line in extras[extra] for name in re.findall(r"sa-ah-grpo\[(\w+)\]", line)]
        return {line.split("==")[0] for line in extras[extra]}.union(*(everything(name) for name in inner))

    assert "ray" not in everything("train") | everything("notebooks") | everything("gpu")
    assert "ray" in everything("sweep") & everything("test")
    makefile = (ROOT / "Makefile").read_text()
    assert "\nsweep: $(VENV)/.with-sweep " in makefile and "\ntest: $(VENV)/.with-test " in makefile


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
