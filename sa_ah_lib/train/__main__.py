"""One run from a configuration file: ``python -m sa_ah_lib.train CONFIG.json [RUNS]``."""

import argparse

from sa_ah_lib.train import distributed, training
from sa_ah_lib.config import RunConfig


def main(arguments: list[str] | None = None) -> None:
    """Run a configuration file; also under ``accelerate launch``, for several GPUs."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.train", description=main.__doc__)
    parser.add_argument("config", help="a RunConfig as to_json() writes it")
    parser.add_argument("runs", nargs="?", default="runs", help="parent of the run directories (runs)")
    parser.add_argument("--data", help="a directory with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--report-to", help="trackio, tensorboard or wandb")
    options = parser.parse_args(arguments)
    finished = training.run(
        RunConfig.from_json(options.config), options.runs, options.data, report_to=options.report_to
    )
    if distributed.is_main():
        print(finished.directory)


if __name__ == "__main__":
    main()
