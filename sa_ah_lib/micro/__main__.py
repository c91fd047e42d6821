"""Rebuilds the micro models from nothing and prints what each measures: ``python -m sa_ah_lib.micro --scale all``."""

from __future__ import annotations

import argparse
import json

from sa_ah_lib.micro import first
from sa_ah_lib.micro.measure import in_words
from sa_ah_lib.micro.warm_start import DESIGN, RECIPES, build
from sa_ah_lib.train.shipped import WEIGHTS


def main(argv: list[str] | None = None) -> None:
    """The command line: builds the warm starts of one scale or of all."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.micro", description=__doc__)
    parser.add_argument("--scale", choices=[*RECIPES, *first.RECIPES, "all"], default="all")
    parser.add_argument(
        "--warm-start", type=int, help=f"one of them (all); {DESIGN} is the one that designs are chosen on"
    )
    parser.add_argument("--out", default=str(WEIGHTS), help="parent of the models (the package's own weights)")
    args = parser.parse_args(argv)
    _check_warm_start(parser, args.scale, args.warm_start)
    for scale in (*RECIPES, *first.RECIPES) if args.scale == "all" else (args.scale,):
        if scale in first.RECIPES:
            facts = json.loads((first.build(scale, args.out) / "recipe.json").read_text())
            print(f"{scale}: zero-shot Pass@1 {facts['zero_shot_pass_at_1']:.3f} (N=500)", flush=True)
            continue
        for start in range(len(RECIPES[scale].seeds)) if args.warm_start is None else [args.warm_start]:
            print(f"{scale}, warm start {start}\n{in_words(build(scale, start, args.out))}", flush=True)


def _check_warm_start(parser, scale, warm_start):
    chosen = [RECIPES[scale]] if scale in RECIPES else list(RECIPES.values()) if scale == "all" else []
    most = min((len(recipe.seeds) for recipe in chosen), default=0)
    if warm_start is not None and warm_start != DESIGN and not 0 <= warm_start < most:
        there = f"{DESIGN} or in [0, {most})" if chosen else f"left out: {scale} has one"
        parser.error(f"--warm-start must be {there}. Got {warm_start}.")


if __name__ == "__main__":
    main()
