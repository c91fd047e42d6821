"""MkDocs hooks: equations become MathML, and the navigation takes every page of a folder that is made."""

from pathlib import Path

from sa_ah_lib.report.mathml import with_mathml


def on_config(config):
    """Put every file in the place of a pattern such as rules/*.md in the navigation; its index comes first."""
    for section in config.nav:
        for pages in section.values() if isinstance(section, dict) else ():
            pages[:] = [page for entry in pages for page in _files(Path(config.docs_dir), entry)]
    return config


def on_page_markdown(markdown, **kwargs):
    """Equations as MathML; notebooks have theirs already."""
    return with_mathml(markdown)


def _files(docs, entry):
    if "*" not in entry:
        return [entry]
    index = {"README.md", "index.md"}
    found = sorted(docs.glob(entry), key=lambda path: (path.name not in index, path.name))
    return [str(path.relative_to(docs)) for path in found]
