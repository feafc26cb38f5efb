"""Ready: which of some connections can be read, however many descriptors a process has open."""

from __future__ import annotations

import math
import select
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Readable(Protocol):
    """A socket, or anything else with a descriptor."""

    def fileno(self) -> int:
        """Its descriptor."""


S = TypeVar("S", bound=Readable | int)

_SELECTABLE = 1024
"""Descriptors that select(2) knows: those of a service with many clients go beyond."""


def ready(sources: Iterable[S], wait_s: float = 0.0) -> list[S]:
    """Those of ``sources`` that can be read, or have ended, once one can or ``wait_s`` is over.

    select(2) keeps time to microseconds and knows small descriptors only; poll(2) knows all of
    them, in milliseconds.
    """
    by_number = {one if isinstance(one, int) else one.fileno(): one for one in sources}
    if max(by_number, default=0) < _SELECTABLE:
        return [by_number[number] for number in select.select(by_number, [], [], wait_s)[0]]
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(math.ceil(1e3 * wait_s))]
