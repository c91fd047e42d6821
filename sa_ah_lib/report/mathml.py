"""Equations of Markdown as MathML: a browser shows it without a script and without a network. Needs no torch.

Needs ``latex2mathml``, which the extra "docs" brings.
"""

import re

from latex2mathml.converter import convert

_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.S)
_INLINE = re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?!\w)")


def with_mathml(markdown: str) -> str:
    """``markdown`` with every $$...$$ and $...$ outside code as MathML."""
    return "".join(part if part.startswith("`") else _math(part) for part in _CODE.split(markdown))


def _math(text):
    text = _DISPLAY.sub(lambda match: convert(match[1].strip(), display="block"), text)
    return _INLINE.sub(lambda match: convert(match[1]), text)
