"""Spread: one function on many values, on the cores of this host or on a Ray cluster.

Results come in the order of the values, whatever finishes first, so that they are the same as those
of a loop.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from planner.core.errors import RunError

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def over_processes(function: Callable[[T], R], values: Sequence[T], processes: int) -> Iterator[R]:
    """Results of ``function`` on ``values``, computed by so many processes at a time."""
    if processes < 2 or len(values) < 2:
        yield from map(function, values)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(processes, len(values)), mp_context=context) as pool:
        yield from pool.map(function, values)


def over_ray(
    function: Callable[[T], R], values: Sequence[T], address: str | None = None
) -> Iterator[R]:
    """The same on a Ray cluster, one core for each value at a time; raises RunError."""
    ray = connected(address)
    task: Any = ray.remote(num_cpus=1)(_apply)
    shared = ray.put(function)
    pending = [task.remote(shared, value) for value in values]
    for reference in pending:
        yield ray.get(reference)


def connected(address: str | None) -> Any:
    """The module ray, connected to a cluster, one of its own without an address; RunError."""
    try:
        import ray
    except ImportError:
        raise RunError("ray is not installed", "pip install 'planner[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RunError(
                f"no Ray cluster answers: {error}", "start one with: ray start --head"
            ) from None
    return ray


def _apply(function: Callable[[T], R], value: T) -> R:
    return function(value)
