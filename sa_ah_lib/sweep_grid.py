"""The grid file of a sweep, read into cells and checked against the notebooks' parameters. Needs no torch. ::

    notebook: 04_sa_ah_grpo            # or a list of them; or the path of an .ipynb file, seen from the grid file
    fixed: {SCALE: micro-s}            # the same in every cell
    grid:                              # every combination is a cell
      SEED: [1, 2, 3]
      OVERRIDES: [{}, {alpha: 0.25}]
    slurm: {time: 240}                 # for --slurm only: options of submitit's Slurm executor
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
from sa_ah_lib.sweep_cell import Cell

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KEYS = ("notebook", "fixed", "grid", "slurm")


def read_grid(path):
    """The grid file as a dict with ``KEYS``: notebook a list of paths, the others mappings.

    Raises:
        ValueError: what the file should hold and does not, naming the key.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"the grid must be a YAML file. Got {path}, which is none.")
    try:
        grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"the grid must be a YAML file. Got {path}: {error}") from error
    if not isinstance(grid, dict):
        raise ValueError(f"the grid must be a mapping with the keys {KEYS}. Got {grid!r}.")
    if unknown := sorted(set(map(str, grid)) - set(KEYS)):
        raise ValueError(f"the grid's keys must be of {KEYS}. Got {unknown}.")
    if not grid.get("notebook"):
        raise ValueError("the grid must name a notebook. Got none under the key 'notebook'.")
    names = grid["notebook"] if isinstance(grid["notebook"], list) else [grid["notebook"]]
    sections = {key: grid.get(key) or {} for key in KEYS[1:]}
    for key, section in sections.items():
        if not isinstance(section, dict):
            raise ValueError(f"{key} must be a mapping of names to values. Got {section!r}.")
    return {"notebook": [_notebook(str(name), path.parent) for name in names], **sections}


def expand(grid, runs):
    """The cells of a grid as ``read_grid`` gives it: every notebook with every combination, in the file's order.

    Raises:
        ValueError: a parameter that a notebook lacks, a value of the wrong kind, or the same cell twice.
    """
    fixed, varied, cells = grid["fixed"], grid["grid"], {}
    if both := sorted(set(fixed) & set(varied)):
        raise ValueError(f"a parameter must be under fixed or under grid. Got {both} under both.")
    for name, values in varied.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid.{name} must be a list of values. Got {values!r}; one value belongs under fixed.")
    for notebook in grid["notebook"]:
        defaults = _defaults(notebook)
        for combination in itertools.product(*varied.values()):
            parameters = {**fixed, **dict(zip(varied, combination, strict=True))}
            for name, value in parameters.items():
                _check_parameter(name, value, defaults, notebook.name)
            cell = _cell(notebook, parameters, defaults, runs)
            if cell.id in cells:
                raise ValueError(f"the cells of a grid must differ. Got twice: {notebook.stem} {words(parameters)}.")
            cells[cell.id] = cell
    return list(cells.values())


def words(parameters):
    """Parameters as one line of NAME=value."""
    return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in parameters.items())


def _notebook(name, directory):
    if name.endswith(".ipynb"):
        if not (directory / name).is_file():
            raise ValueError(f"notebook must be an .ipynb file, seen from the grid file. Got {name}, which is none.")
        return (directory / name).resolve()
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    if name not in known:
        raise ValueError(f"notebook must be one of {known}, or the path of an .ipynb file. Got {name!r}.")
    return NOTEBOOKS / f"{name}.ipynb"


def _defaults(notebook):
    """{name: default} of the notebook's parameters cell; RUNS is the sweep's own, and must be there."""
    import papermill

    found = {name: entry["default"] for name, entry in papermill.inspect_notebook(notebook).items()}
    if "RUNS" not in found:
        raise ValueError(f"{notebook.name} must have RUNS in its parameters cell. Got {sorted(found)}.")
    return {name: ast.literal_eval(default) for name, default in found.items() if name != "RUNS"}


def _check_parameter(name, value, defaults, notebook):
    if name == "RUNS":
        raise ValueError("RUNS must be given to the sweep, as --runs. Got it in the grid.")
    if name not in defaults:
        raise ValueError(f"parameters must be those of {notebook}. Got {name!r}; allowed are {sorted(defaults)}.")
    default = defaults[name]
    if default is not None and _kind(value) != _kind(default):
        raise ValueError(f"{name} must be {_kind(default)}, as its default {default!r} is. Got {value!r}.")
    for text in (text for text in _leaves(value) if isinstance(text, str)):
        if re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", text):
            raise ValueError(f"{name} holds the text {text!r}, for YAML reads a number only in the form 5.0e-6.")
    try:
        json.dumps(value)
    except TypeError as error:
        raise ValueError(f"{name} must hold text, numbers, lists and mappings. Got {value!r}.") from error
    fields = sorted(field.name for field in dataclasses.fields(RunConfig))
    if name == "OVERRIDES" and (unknown := sorted(set(value) - set(fields))):
        raise ValueError(f"OVERRIDES must name fields of RunConfig. Got {unknown}; allowed are {fields}.")


def _kind(value):
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), type(value).__name__)


def _leaves(value):
    if isinstance(value, (list, dict)):
        return [leaf for item in (value.values() if isinstance(value, dict) else value) for leaf in _leaves(item)]
    return [value]


def _cell(notebook, parameters, defaults, runs):
    everything = json.dumps([notebook.stem, {**defaults, **parameters}], sort_keys=True)
    digest = hashlib.sha256(everything.encode()).hexdigest()[:8]
    return Cell(f"{notebook.stem}-{digest}", str(notebook), parameters, str(Path(runs).resolve()))
