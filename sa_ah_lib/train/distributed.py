"""What the processes of one data-parallel run share: who is main, what it decided, and rows gathered from all.

A process that no launcher started is the main one of one.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object


def count() -> int:
    """How many processes do this run; at least 1."""
    return _state().num_processes


def index() -> int:
    """This process's number, from 0."""
    return _state().process_index


def is_main() -> bool:
    """Whether this process writes the files and prints."""
    return _state().is_main_process


def per_process(micro_batch_size: int, num_generations: int) -> int:
    """Rollouts of a process's own micro-batch: ``micro_batch_size / processes``, in whole groups.

    Raises:
        ValueError: the micro-batch's groups cannot be dealt out evenly.
    """
    # Read from the launcher, so that a configuration can be checked before a process group is there.
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    groups = micro_batch_size // num_generations
    if groups % processes:
        raise ValueError(
            f"a micro-batch's groups must be a multiple of the processes, so that each holds whole groups and all as "
            f"many. Got {groups} groups of {num_generations} rollouts for {processes} processes; launch a divisor of "
            f"{groups}, or change prompts_per_step or gradient_accumulation_steps."
        )
    return micro_batch_size // processes


def decided_by_main(action: Callable[[], Any]) -> Any:
    """``action()`` of the main process alone; its result, or its exception, on every process."""
    answer = [None, None]
    if is_main():
        try:
            answer[0] = action()
        except Exception as error:
            # The others would wait for an answer until the process group times out.
            answer[1] = error
    if count() > 1:
        broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def gather(rows: list[Any]) -> list[Any]:
    """The lists of all processes, one after the other, on every process."""
    return gather_object(rows)


def wait() -> None:
    """Return once every process got here."""
    _state().wait_for_everyone()


def _state():
    # Not told so, it would join no process group on a machine without a GPU.
    return PartialState(cpu=not torch.cuda.is_available())
