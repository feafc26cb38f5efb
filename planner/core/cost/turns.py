"""Turns that devices with layers of their own take with the chunks of a prompt."""

from __future__ import annotations

import math

_LAUNCH_QUEUE = 1024
"""Kernels that wait on a CUDA device before the process that launches more of them halts."""


def share_in_turns(devices: int, chunks: int, wait: float) -> float:
    """Share of the work in a row that a prompt takes.

    The first chunk leaves after a turn of each device, each further one after as many turns as the
    first device waits between chunks: one at best.
    """
    return (devices + (chunks - 1) * wait) / (chunks * devices)


def turns_between(devices: int, at_once: int | None, kernels: float) -> float:
    """Turns that a device waits from chunk to chunk.

    So many chunks are under way ``at_once``; None for any number. One process launches a chunk's
    ``kernels`` (0 for no such process) for device after device and halts where a queue is full.
    With D chunks to a queue and m whole ones, it is done with a chunk when the last device has
    D - m of the one m before to go: m + 1 waits take n - (D - m) turns.
    """
    wait = devices / at_once if at_once else 1.0
    if kernels:
        queued = _LAUNCH_QUEUE / kernels
        whole = math.floor(queued)
        if at_once is None or whole < at_once:
            wait = max(wait, (devices - (queued - whole)) / (whole + 1))
    return max(1.0, wait)
