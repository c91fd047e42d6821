"""Notebooks one after another: a line each, the cell's error where one fails, and what to open in the end."""

import io
import re
from pathlib import Path

import pytest

papermill, nbformat = pytest.importorskip("papermill"), pytest.importorskip("nbformat")

from sa_ah_lib.report import run_notebooks
from sa_ah_lib.sweep import kernels
from sa_ah_lib.train.progress import MARK

SHOWING = f"""
from IPython.display import display
handle = display({{"text/plain": "GRPO, step 0 of 2"}}, raw=True, display_id=True, metadata={MARK!r})
handle.update({{"text/plain": f"GRPO, step 2 of 2: seed {{SEED}}"}}, raw=True, metadata={MARK!r})
print("noise of a package")
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook of one parameters cell and one other."""

    def write(name, source, parameters="SEED = 123"):
        cells = [nbformat.v4.new_code_cell(parameters), nbformat.v4.new_code_cell(source)]
        cells[0].metadata["tags"] = ["parameters"]
        made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "language": "python",
                                                                            "display_name": "Python 3"}})  # fmt: skip
        nbformat.write(made, tmp_path / f"{name}.ipynb")
        return str(tmp_path / f"{name}.ipynb")

    return write


def run(tmp_path, *arguments, stream=None):
    stream = stream or io.StringIO()
    return run_notebooks.main([*arguments, "--out", str(tmp_path / "out"), "--suffix=-x"], stream), stream.getvalue()


def test_each_notebook_is_a_line_and_the_end_says_what_to_open(notebook, tmp_path):
    """572 lines, with "Ending Cell 48" as the last, say neither how far it is nor what was made."""
    paths = [notebook("first", SHOWING), notebook("second", "pass", "OTHER = 1")]
    code, text = run(tmp_path, *paths, "-p", "SEED", "7", "--open", "figures")
    lines = text.splitlines()
    assert code == 0 and len(lines) == 6
    assert re.fullmatch(r"first +done after \d\d:\d\d  GRPO, step 2 of 2: seed 7", lines[0])
    assert re.fullmatch(r"second +done after \d\d:\d\d", lines[1])
    outputs = [str(tmp_path / "out" / f"{name}-x.ipynb") for name in ("first", "second")]
    assert lines[2:] == ["Open what was made:", *(f"  {name}" for name in [*outputs, "figures"])]
    assert "noise of a package" in open(outputs[0]).read()


def test_a_kernel_is_reached_by_files_and_leaves_none(notebook, tmp_path):
    """Of three notebooks side by side one lost a port to another between its choice and its use."""
    source = "import ipykernel, json\nprint(json.loads(ipykernel.get_connection_info())['ip'])"
    code, _ = run(tmp_path, notebook("first", source))
    executed = nbformat.read(tmp_path / "out" / "first-x.ipynb", 4)
    socket = Path(executed.cells[-1].outputs[0].text.strip())
    assert code == 0 and socket.name == "socket" and not socket.parent.exists()


@pytest.mark.parametrize("system, folder", [("nt", "short"), ("posix", "long" * 30)])
def test_where_files_cannot_serve_ports_do(system, folder, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir()
    monkeypatch.setattr(kernels.tempfile, "tempdir", str(tmp_path / folder))
    monkeypatch.setattr(kernels, "SYSTEM", system)
    with kernels.own_sockets() as config:
        assert not config


def test_a_terminal_sees_every_step_in_its_line(notebook, tmp_path):
    code, text = run(tmp_path, notebook("first", SHOWING), stream=Terminal())
    states = [state.split("  ")[0].strip() for state in re.findall(r"\rfirst +([^\r\n]*)", text)]
    assert code == 0 and states[:3] == ["starting", "GRPO, step 0 of 2", "GRPO, step 2 of 2: seed 123"]
    # The next state must cover the last one to its end.
    assert len({len(state) for state in re.findall(r"\r([^\r\n]*)", text)}) == 1


def test_a_failing_cell_is_shown_and_ends_it(notebook, tmp_path):
    paths = [notebook("bad", "raise RuntimeError('the disk is full')"), notebook("never", "pass")]
    code, text = run(tmp_path, *paths)
    assert code == run_notebooks.FAILED and "RuntimeError: the disk is full" in text
    assert re.search(r"bad +failed after", text) and "never" not in text.replace("bad-x", "")
    assert f"The notebook as far as it came: {tmp_path / 'out' / 'bad-x.ipynb'}" in text
    assert "the disk is full" in (tmp_path / "out" / "bad-x.ipynb").read_text()


def test_after_ctrl_c_the_same_command_goes_on(notebook, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    code, text = run(tmp_path, notebook("first", "pass"))
    assert code == run_notebooks.STOPPED
    assert re.search(r"first +stopped after", text) and "The same command goes on" in text


def test_a_parameter_that_no_notebook_has_is_refused(notebook, tmp_path, capsys):
    """papermill only warns, and the run would be one of the defaults."""
    with pytest.raises(SystemExit):
        run(tmp_path, notebook("first", "pass"), "-p", "SCAL", "micro-s")
    assert "Got SCAL" in capsys.readouterr().err
