"""MkDocs hook: equations become MathML when the site is built, so that reading it needs no script and no network."""

import re

from latex2mathml.converter import convert


def on_page_markdown(markdown, **kwargs):
    """Replace $$...$$ and $...$ outside code by MathML."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", markdown, flags=re.S)
    return "".join(part if part.startswith("`") else _math(part) for part in parts)


def _math(text):
    text = re.sub(r"\$\$(.+?)\$\$", lambda m: convert(m[1].strip(), display="block"), text, flags=re.S)
    return re.sub(r"(?<![\\$\w])\$([^$\n]+?)\$(?!\w)", lambda m: convert(m[1]), text)
