"""Checks a rule file, trains it on the board's pairs of warm start and seed, and prints its row beside GRPO's."""

import argparse
import math
import statistics
import sys
from pathlib import Path

from sa_ah_lib.analysis import board, board_table, loading, own_setting
from sa_ah_lib.config import SCALES
from sa_ah_lib.enter import runs
from sa_ah_lib.train import reuse
from sa_ah_lib.train.runlog import ENTERED

CHECKED_ON = 60
"""Logged groups that a rule file is checked on."""
ASSUMED = 3.5
"""Seconds of a step where no run of the scale is there to tell."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, or 2 for a file that cannot be entered, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.enter", description=__doc__)
    parser.add_argument("rule", help="a Python file with one rule, see docs/your-own-rule.md")
    parser.add_argument("--scale", default=board.SCALES[0], choices=SCALES, help="where it is trained (%(default)s)")
    parser.add_argument("--pairs", type=int, help="how many of the board's pairs of warm start and seed (all)")
    parser.add_argument("--steps", type=int, default=0, help="0 is the board's own length")
    parser.add_argument("--step", type=float, default=1.0, help="learning rate, in units of the scale's own (1)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one core each (%(default)s)")
    parser.add_argument("--samples", type=int, default=0, help="completions sampled of each run, 16 for Pass@16")
    parser.add_argument("--logs", default="figures/logs", help="published runs: GRPO's are read from here")
    parser.add_argument("--runs", default="runs", help="where new runs go")
    parser.add_argument("--check-only", action="store_true", help="stop before training")
    given = parser.parse_args(arguments)
    for name, least in {"samples": 0, "workers": 1, "pairs": 1}.items():
        if (value := getattr(given, name)) is not None and value < least:
            parser.error(f"--{name} must be at least {least}. Got {value}.")
    if not 0 < given.step < math.inf:
        parser.error(f"--step must be above 0. Got {given.step:g}.")
    try:
        return _enter(given)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, runs.RunFailedError) as error:
        print(f"enter: {error}", file=sys.stderr)
        return 2


def _enter(given):
    record = _checked(given.rule, given.logs, given.scale)
    if given.check_only:
        return 0
    home, wanted = runs.directory(given.rule, given.runs), board.pairs(given.scale)[: given.pairs]
    entry, grpo = board.entry_of(record).at(given.step), board.Entry(board.GRPO)
    found = _found(given, home, wanted)
    places = ((grpo, Path(given.runs)), (entry, home))
    jobs = [(c, home) for e, home in places for c in board.missing([e], found, given.scale, given.steps, given.pairs)]
    if jobs:
        reuse.check_pairs([run for run in found if run.config.scale == given.scale])
    print(_forecast(jobs, found, given))
    found += runs.train(jobs, runs.keep(given.rule, home), given.workers, given.samples)
    rows = board.rows(found, given.scale, given.steps, [*board.line(), entry])
    ran = [row for row in rows if row.arm.runs]
    tables = [table for table in (board_table.table(ran, given.scale), own_setting.table(ran, given.scale)) if table]
    print(*(table.markdown for table in tables), *(path for table in tables for path in table.save(home)), sep="\n")
    return 0


def _checked(path, logs, scale):
    # Torch is only needed here; a process that trains must import Unsloth before it.
    from sa_ah_lib.enter import nearest, replay, rule_check, rule_file

    rule = rule_file.load(path)
    batches = [group.batch for group in replay.groups(logs, CHECKED_ON, scale)]
    print(f"{path}: {rule_check.check(rule, batches)}")
    if near := nearest.nearest(rule, batches):
        print(f"nearest rows by overlap with it (1 is the same): {'; '.join(map(str, near))}")
    return rule.record


def _found(given, home, wanted):
    """Finished runs of the pairs, published ones and one's own."""
    places = [place for place in (given.logs, given.runs, home) if Path(place).is_dir()]
    results = loading.load(*places).results
    own = [r for r in results if r.directory.parent == home or ENTERED not in r.directory.parts]
    return [r for r in own if (r.config.warm_start, r.config.seed) in wanted]


def _forecast(jobs, found, given):
    """What is trained now, and about how long that takes."""
    if not jobs:
        return "every run is there, none is trained now"
    seconds = [
        row["step_time"] for r in found if r.config.scale == given.scale for row in r.train if "step_time" in row
    ]
    step = statistics.median(seconds) if seconds else ASSUMED
    left = sum(config.steps - runs.steps_done((config, parent)) for config, parent in jobs)
    minutes = left * step / min(given.workers, len(jobs)) / 60
    many = "1 run is" if len(jobs) == 1 else f"{len(jobs)} runs are"
    return f"{many} trained now, {given.workers} at a time: about {minutes:.0f} minutes and evaluations"


if __name__ == "__main__":
    sys.exit(main())
