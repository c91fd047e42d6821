"""What every notebook switches on first: the figures' style, and errors that begin with what to do. Needs no torch."""

import sys
import traceback
from pathlib import Path

import matplotlib.pyplot as plt

from sa_ah_lib.report.style import STYLE

EXPECTED = (ValueError, OSError)
"""What the library raises of a wrong parameter, file or connection: its message says what to do."""

LIBRARY = str(Path(__file__).parents[1])


def set_up() -> None:
    """Draw in the project's style; show an error that the library expects by its message alone.

    The whole traceback of such an error is one cell away (``%tb``). Any other error is shown whole, as always.
    """
    plt.style.use(STYLE)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.set_custom_exc(EXPECTED, _show)


def _show(shell, kind, error, trace, tb_offset=None):
    if _is_ours(trace):
        message = [f"{kind.__name__}: {error}", "", "(%tb in a new cell shows the whole traceback)"]
        error._render_traceback_ = lambda: message
    try:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    finally:
        # Only this once: %tb asks the same error again.
        vars(error).pop("_render_traceback_", None)


def _is_ours(trace):
    """Whether the library itself raised the error, not a package that it called."""
    return traceback.extract_tb(trace)[-1].filename.startswith(LIBRARY)
