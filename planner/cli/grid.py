"""Grids: targets under every combination of values, and where their simulations run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from planner.files.manifest import Manifest
    from planner.files.scenario import Scenario
    from planner.sim.result import SimResult
    from planner.sim.trial import Trial

VaryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        metavar="PATH=A,B,...",
        help="Simulate under each of these values, and under every combination if repeated.",
    ),
]
SpreadOption = Annotated[
    Literal["processes", "ray"],
    typer.Option(
        "--engine",
        help="Where simulations run side by side: on this host's cores or on a Ray cluster.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Processes at a time.  [default: 1 for fewer than 8 simulations, else all cores]",
    ),
]
_FEW = 8
"""Simulations that are over before other processes would have started."""


def combinations(varied: Sequence[str]) -> list[tuple[str, ...]]:
    """The ``PATH=VALUE`` of every combination, in the order given; one empty one without any.

    A list in brackets is one value. Raises UsageError.
    """
    return list(itertools.product(*(list(_values(text)) for text in varied)))


def named(target: Scenario | Manifest, values: Sequence[str]) -> Scenario | Manifest:
    """A target that is told from the others by the values it has."""
    from planner.files.manifest import Manifest

    told = [text.partition("=") for text in values]
    suffix = "".join(f" {path.rsplit('.', 1)[-1]}={value}" for path, _, value in told)
    if not suffix:
        return target
    if isinstance(target, Manifest):
        problem = target.problem.model_copy(update={"name": target.problem.name + suffix})
        return target.model_copy(update={"problem": problem})
    return replace(target, name=target.name + suffix)


@contextmanager
def told_as_varied(values: Sequence[str]) -> Iterator[None]:
    """What is wrong with a value of ``--vary`` is said of that option, not of ``--set``."""
    from planner.core.errors import UsageError

    try:
        yield
    except UsageError as error:
        message = error.message
        for value in values:
            message = message.replace(f"--set {value}", f"--vary {value}")
        raise UsageError(message, error.hint) from None


def _values(text: str) -> Iterator[str]:
    from planner.core.errors import UsageError

    path, sign, values = text.partition("=")
    found = [value.strip() for value in _split(values)]
    if not sign or not path or not all(found):
        raise UsageError(f"--vary {text} names no values", "write it like PATH=A,B,C")
    yield from (f"{path}={value}" for value in found)


def _split(text: str) -> Iterator[str]:
    """The parts between commas that are in no brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    yield part


def spread(
    trials: Sequence[Trial], engine: str, jobs: int | None, address: str | None
) -> Iterator[SimResult]:
    """Results in the order of the trials, the same wherever they run; raises RunError."""
    from planner.sim.trial import run_trial

    if engine == "processes" and len(trials) < (_FEW if jobs is None else 2):
        yield from map(run_trial, trials)
        return
    from planner.run.spread import over_processes, over_ray, usable_cores

    if engine == "ray":
        yield from over_ray(run_trial, trials, address)
        return
    yield from over_processes(run_trial, trials, jobs or usable_cores())
