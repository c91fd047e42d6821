"""Execute notebooks one after another, with one line each: what ``make demo`` and ``make paper`` show. Needs no torch.

``python -m sa_ah_lib.report.run_notebooks notebooks/02_grpo.ipynb --out DIR -p SCALE micro-s`` is papermill, which
writes the executed file below DIR, with the progress of the run inside in place of its own log.
"""

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from sa_ah_lib.sweep import kernels
from sa_ah_lib.train.progress import MARK

FAILED, STOPPED = 1, 130


class Line:
    """One notebook's line: rewritten in place on a terminal, else printed once, when the notebook has ended."""

    def __init__(self, name: str, stream: TextIO | None = None):
        self.name, self.stream = name, stream or sys.stdout
        self.started, self.text = time.monotonic(), ""
        self.live = self.stream.isatty()
        self.show("starting")

    def show(self, text: str) -> None:
        """``text`` is what the notebook is doing now."""
        self.text = text
        if self.live:
            self._write(f"\r{self._fitted(text)}")

    def end(self, outcome: str) -> None:
        """The notebook has ended: its name, how, how long it took, and what it said last."""
        said = "" if self.text == "starting" else f"  {self.text}"
        spent = tqdm.format_interval(time.monotonic() - self.started)
        self._write(("\r" if self.live else "") + self._fitted(f"{outcome} after {spent}{said}") + "\n")

    def _fitted(self, text):
        text = f"{self.name:<22} {text}"
        return text[: (width := shutil.get_terminal_size().columns - 1)].ljust(width) if self.live else text

    def _write(self, text):
        self.stream.write(text)
        self.stream.flush()


class _Client(PapermillNotebookClient):
    """papermill's client; it also tells ``line`` what the running cell says of its progress."""

    line: Line

    def process_message(self, message: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        content = message["content"]
        if content.get("metadata") == MARK:
            self.line.show(content["data"]["text/plain"])
        return super().process_message(message, cell, cell_index)


class _Engine(NBClientEngine):
    """papermill's engine, with ``_Client``."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, line: Line, start_timeout: int = 60, **kwargs: Any
    ) -> None:
        # Kernels print warnings of their own between the lines; what cells print is in the executed file.
        quiet = ["--log-level=50"]
        with kernels.own_sockets() as config:
            client = _Client(
                nb_man, kernel_name=kernel_name, startup_timeout=start_timeout, timeout=None, extra_arguments=quiet,
                config=config,
            )  # fmt: skip
            client.line = line
            client.execute()


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any], stream: TextIO | None = None) -> None:
    """Execute one notebook in its own directory, with parameters, into ``output``.

    Raises:
        PapermillExecutionError: a cell failed; ``output`` shows it and all that came before.
    """
    papermill_engines.register("one line", _Engine)
    logging.getLogger("papermill").setLevel(logging.WARNING)
    line, outcome = Line(Path(notebook).stem, stream), "failed"
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            notebook, output, parameters, engine_name="one line", line=line, progress_bar=False,
            cwd=str(Path(notebook).parent),
        )  # fmt: skip
        outcome = "done"
    except KeyboardInterrupt:
        outcome = "stopped"
        raise
    finally:
        line.end(outcome)


def main(arguments: Sequence[str] | None = None, stream: TextIO | None = None) -> int:
    """Execute notebooks in order, stop at the first that fails, and say what to open. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.report.run_notebooks", description=main.__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where the executed notebooks go")
    parser.add_argument("--suffix", default="", help="added to their names, such as -micro-s")
    parser.add_argument("--open", action="append", default=[], help="what to name at the end, besides the notebooks")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    parser.add_argument("-r", nargs=2, action="append", default=[], metavar=("NAME", "TEXT"), help="one that is a text")
    options, stream = parser.parse_args(arguments), stream or sys.stdout
    given = {**{name: yaml.safe_load(value) for name, value in options.p}, **dict(options.r)}
    outputs = [options.out / f"{path.stem}{options.suffix}.ipynb" for path in options.notebooks]
    declared = [papermill.inspect_notebook(path) for path in options.notebooks]
    if unknown := sorted(set(given).difference(*declared)):
        parser.error(f"expected parameters that one of the notebooks declares. Got {', '.join(unknown)}.")
    for notebook, output, names in zip(options.notebooks, outputs, declared, strict=True):
        try:
            execute(notebook, output, {name: value for name, value in given.items() if name in names}, stream)
        except KeyboardInterrupt:
            print("Stopped. The same command goes on: finished runs are read from their logs, and the one that was "
                  "stopped starts from its newest checkpoint.", file=stream)  # fmt: skip
            return STOPPED
        except (PapermillExecutionError, DeadKernelError) as error:
            print(f"\n{error}\nThe notebook as far as it came: {output}", file=stream)
            return FAILED
    print("Open what was made:", *outputs, *options.open, sep="\n  ", file=stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
