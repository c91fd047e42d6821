"""A saved adapter and the base model it stands on. Needs no torch."""

import json
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

CONFIG, BASE = "adapter_config.json", "base_model_name_or_path"


@contextmanager
def on_base(adapter: str | Path, base: str) -> Generator[str]:
    """A directory, inside the block, with ``adapter`` and ``base`` as the model below it.

    An adapter names its base by where that lay when it was trained. A run that was moved, or a library that is
    installed elsewhere now, would not be found by it. The adapter's own files are not changed.

    Args:
        adapter: a directory with PEFT's ``adapter_config.json``. base: a directory, or a hub id.
    """
    adapter = Path(adapter)
    told = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    if told[BASE] == base:
        yield str(adapter)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        copy = Path(shutil.copytree(adapter, Path(scratch) / "adapter"))
        (copy / CONFIG).write_text(json.dumps({**told, BASE: base}), encoding="utf-8")
        yield str(copy)
