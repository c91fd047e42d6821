"""``python -m sa_ah_lib.gpu_card``: go on with what is not measured yet, then make the card."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sa_ah_lib.gpu_card import card, runner, stages


def main(given: Sequence[str] | None = None) -> int:
    """Measure one GPU within a budget of minutes; a second call goes on with what is missing.

    The exit code is 0 where every chosen stage is done and nothing found is wrong, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.gpu_card", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where everything is kept, and read from again")
    parser.add_argument("--budget-minutes", type=float, default=9, help="the most for this call (9)")
    parser.add_argument("--total-minutes", type=float, default=25, help="the most for all calls together (25)")
    parser.add_argument("--stages", help="names with commas between; all by default")
    parser.add_argument("--rehearse", action="store_true", help="small sizes, on a CPU")
    parser.add_argument("--gsm8k", type=Path, help="GSM8K's own train.jsonl and test.jsonl, for the runs on it")
    options = parser.parse_args(given)
    directory = options.out.resolve()
    every = stages.every(options.rehearse, options.gsm8k and options.gsm8k.resolve())
    names = [stage.name for stage in every]
    wanted = options.stages.split(",") if options.stages else names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"--stages must be among {', '.join(names)}. Got {', '.join(unknown)}.")
    directory.mkdir(parents=True, exist_ok=True)
    chosen = [stage for stage in every if stage.name in wanted]
    # As Ctrl-C does, it must end what a stage has started, which would keep the GPU.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runner.run(directory, chosen, 60 * options.budget_minutes, 60 * options.total_minutes)
    finally:
        made = card.make(directory, every, options.rehearse)
        print(f"The card: {directory / 'card' / 'card.md'}")
    left = [stage.name for stage in runner.waiting(directory, chosen)]
    if left:
        print(f"Not done: {', '.join(left)}. The same command goes on with them.")
    for text in (wrong := card.wrong(made)):
        print(f"WRONG: {text}")
    return 1 if left or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
