"""How an executed notebook talks to its kernel: through files of their own, not through ports. Needs no torch.

Jupyter chooses five free ports and hands them to the kernel, which takes them a second later. In between another
notebook, executed side by side, may get one of them, and the kernel never answers. A file's name is nobody else's.
"""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traitlets.config import Config

SYSTEM = os.name
LONGEST = 90
"""Characters of a socket's path: systems allow 103 or 107 in all."""


@contextmanager
def own_sockets() -> Generator["Config"]:
    """The ``config`` of an nbclient ``NotebookClient``, which ``papermill.execute_notebook`` hands on.

    On Windows, and where the temporary directory's name is too long for a socket's, it is empty: Jupyter uses ports.
    """
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "socket"
        usable = SYSTEM == "posix" and len(str(path)) < LONGEST
        yield Config({"KernelManager": {"transport": "ipc", "ip": str(path)}} if usable else {})
