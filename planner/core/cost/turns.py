"""Turns that devices with layers of their own take with the chunks of a prompt."""

from __future__ import annotations

from functools import lru_cache

_LAUNCH_QUEUE = 1024
"""Kernels that wait on a CUDA device before the process that launches more of them halts."""


@lru_cache(maxsize=1024)
def share_in_turns(devices: int, chunks: int, at_once: int | None, kernels: float) -> float:
    """Share of the work in a row that a prompt takes, a turn being a device's work on a chunk.

    Every chunk goes from device to device. So many are under way ``at_once``, None for any number.
    One process launches a chunk's ``kernels`` (0 for no such process) for device after device and
    halts where a queue is full: until the device has done all but a queue of what it was given.
    """
    done: list[list[float]] = []  # [chunk][device]
    launched = 0.0
    for chunk in range(chunks):
        if at_once is not None and chunk >= at_once:
            launched = max(launched, done[chunk - at_once][-1])
        done.append([])
        for device in range(devices):
            before = done[chunk - 1][device] if chunk else 0.0
            handed = done[chunk][device - 1] if device else 0.0
            done[chunk].append(max(before, handed, launched) + 1)
            over = (chunk + 1) - _LAUNCH_QUEUE / kernels if kernels else 0.0
            if over > 0:
                launched = max(launched, done[int(over)][device] - 1 + over % 1)
    return done[-1][-1] / (chunks * devices)
