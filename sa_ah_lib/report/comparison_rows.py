"""The numbers behind a picture of comparisons, as CSV files to compute with. Needs no torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sa_ah_lib.analysis.seeds import Comparison, outcome
from sa_ah_lib.report.style import save_rows


def save_comparisons(found: Mapping[str, Iterable[Comparison]], directory: str | Path, name: str) -> list[Path]:
    """Write ``name``-numbers.csv, one row per comparison, and ``name``-pairs.csv, one row per pair of runs; the paths.

    Gains and bounds are shares, not points, and logarithms for a ratio metric; positive where ``first`` is better.

    Args:
        found: {scale: comparisons}.
    """
    comparisons = [(scale, one) for scale, ones in found.items() for one in ones]
    return [
        save_rows([_numbers(scale, one) for scale, one in comparisons], directory, f"{name}-numbers"),
        save_rows([row for _, one in comparisons for row in _pairs(one)], directory, f"{name}-pairs"),
    ]


def _numbers(scale, found):
    gain = found.gain
    named = {"scale": scale, "first": found.first, "second": found.second, "metric": found.metric, "n": gain.count}
    told = {"gain": gain.value, "low": gain.low, "high": gain.high, "p": found.p_value, "holm_p": found.adjusted_p}
    return {**named, **told, "verdict": outcome(found)}


def _pairs(found):
    named = {"first": found.first, "second": found.second, "metric": found.metric}
    return [
        {"scale": scale, **named, "warm_start": start, "seed": seed, "gain": gain}
        for (scale, start, seed), gain in found.gains.items()
    ]
