"""The grid file of a sweep, read into cells and checked against the notebooks' parameters. Needs no torch. ::

notebook: 04_sa_ah_grpo            # or a list of them; or the path of an .ipynb file, seen from the grid file
fixed: {SCALE: micro-s}            # the same in every cell
grid:                              # every combination is a cell
  SEED: [1, 2, 3]
  OVERRIDES: [{}, {alpha: 0.25}]
"""

import ast
import dataclasses
import hashlib
import itertools
import json
import re
from pathlib import Path

import yaml

from sa_ah_lib.config import RunConfig
from sa_ah_lib.config.fields import KINDS
from sa_ah_lib.sweep.cell import Cell

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
KEYS = ("notebook", "fixed", "grid")


def read_cells(path: Path | str, runs: Path | str) -> list[Cell]:
    """The cells of a grid file: every notebook with every combination, in the file's order.

    Raises:
        ValueError: no such file, a key or parameter that is unknown, a value of the wrong kind, the same cell twice.
    """
    grid = _mapping(Path(path))
    fixed, varied, cells = grid.get("fixed") or {}, grid.get("grid") or {}, {}
    for key, section in {"fixed": fixed, "grid": varied}.items():
        if not isinstance(section, dict):
            raise ValueError(f"{key} must be a mapping of names to values. Got {section!r}.")
    if both := sorted(set(fixed) & set(varied)):
        raise ValueError(f"a parameter must be under fixed or under grid. Got {both} under both.")
    for name, values in varied.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid.{name} must be a list of values. Got {values!r}; one value belongs under fixed.")
    for name in grid["notebook"] if isinstance(grid["notebook"], list) else [grid["notebook"]]:
        notebook = _notebook(str(name), Path(path).parent)
        defaults = _defaults(notebook)
        for combination in itertools.product(*varied.values()):
            parameters = {**fixed, **dict(zip(varied, combination, strict=True))}
            for parameter, value in parameters.items():
                _check(parameter, value, defaults, notebook.name)
            everything = json.dumps([notebook.stem, {**defaults, **parameters}], sort_keys=True)
            digest = hashlib.sha256(everything.encode()).hexdigest()[:8]
            cell = Cell(f"{notebook.stem}-{digest}", str(notebook), parameters, str(Path(runs).resolve()))
            if cell.id in cells:
                raise ValueError(f"the cells of a grid must differ. Got twice: {notebook.stem} {cell.words()}.")
            cells[cell.id] = cell
    return list(cells.values())


def _mapping(path):
    try:
        grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"the grid must be a YAML file. Got {path}: {error}") from error
    if not isinstance(grid, dict) or not grid.get("notebook"):
        raise ValueError(f"the grid must be a mapping of {KEYS} that names a notebook. Got {grid!r}.")
    if unknown := sorted(set(map(str, grid)) - set(KEYS)):
        raise ValueError(f"the grid's keys must be of {KEYS}. Got {unknown}.")
    return grid


def _notebook(name, directory):
    path = (directory / name).resolve() if name.endswith(".ipynb") else NOTEBOOKS / f"{name}.ipynb"
    if not path.is_file():
        known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
        raise ValueError(f"notebook must be one of {known}, or a path seen from the grid file. Got {name!r}.")
    return path


def _defaults(notebook):
    """{name: default} of the notebook's parameters cell; RUNS is the sweep's own, and must be there."""
    import papermill

    found = {name: entry["default"] for name, entry in papermill.inspect_notebook(notebook).items()}
    if not found.pop("RUNS", None):
        raise ValueError(f"{notebook.name} must have RUNS in its parameters cell. Got {sorted(found)}.")
    return {name: ast.literal_eval(default) for name, default in found.items()}


def _check(name, value, defaults, notebook):
    if name == "RUNS":
        raise ValueError("RUNS must be given to the sweep, as --runs. Got it in the grid.")
    if name not in defaults:
        raise ValueError(f"parameters must be those of {notebook}. Got {name!r}; allowed are {sorted(defaults)}.")
    wanted = KINDS.get(type(defaults[name]))
    if wanted and KINDS.get(type(value)) != wanted:
        raise ValueError(f"{name} must be {wanted}, as its default {defaults[name]!r} is. Got {value!r}.")
    try:
        text = json.dumps(value)
    except TypeError as error:
        raise ValueError(f"{name} must hold text, numbers, lists and mappings. Got {value!r}.") from error
    if number := re.search(r'"[+-]?\d+(\.\d*)?[eE][+-]?\d+"', text):
        raise ValueError(f"{name} holds the text {number[0]}, for YAML reads a number only in the form 5.0e-6.")
    fields = sorted(field.name for field in dataclasses.fields(RunConfig))
    if name == "OVERRIDES" and (unknown := sorted(set(value) - set(fields))):
        raise ValueError(f"OVERRIDES must name fields of RunConfig. Got {unknown}; allowed are {fields}.")
