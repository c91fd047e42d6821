"""Whether two pictures are the same but for rounding: PNG by its pixels, SVG by its text and the numbers in it.

Of a PDF, which holds what its SVG holds, it is looked only whether it is one: its streams are compressed.
"""

import re

import numpy as np
from matplotlib.testing.compare import compare_images

PIXELS = 0.5
"""Largest root mean square of the difference of two PNGs, of 255."""
POINTS = 0.05
"""Largest difference of two numbers at one place of two SVGs, most of which are points of 1/72 in."""
# matplotlib names clip paths, markers and hatches by a hash of what they hold.
_HASHED = re.compile(r"\b[a-z]\w{0,8}?[0-9a-f]{10}\b")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def difference(expected, found):
    """What sets the picture file ``found`` apart from ``expected`` (paths), in words; "" where nothing does."""
    if expected.read_bytes() == found.read_bytes():
        return ""
    return {".svg": _svg, ".png": _png, ".pdf": _pdf}[expected.suffix](expected, found)


def _png(expected, found):
    return compare_images(str(expected), str(found), PIXELS) or ""


def _pdf(expected, found):
    both = [path.read_bytes() for path in (expected, found)]
    whole = all(data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF") for data in both)
    return "" if whole else f"{expected}, {found}: expected two whole PDF files"


def _svg(expected, found):
    texts = [_HASHED.sub("id", path.read_text(encoding="utf-8")) for path in (expected, found)]
    first, second = (_NUMBER.sub("#", text).splitlines() for text in texts)
    other = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
    if other or len(first) != len(second):
        return f"{found}: other elements or words: {other[:1] or (len(first), len(second))}"
    numbers = [np.array(_NUMBER.findall(text), dtype=float) for text in texts]
    gap = np.abs(numbers[0] - numbers[1]).max()
    return f"{found}: a number is off by {gap:g}" if gap > POINTS else ""
