"""Halt: whether a search is to end, as somebody else knows: a clock, for example.

Every loop that may take longer than a second asks; what was found and proven by then stays.
"""

from __future__ import annotations

from collections.abc import Callable

Halt = Callable[[], bool]
"""Whether the search is to end."""


def never() -> bool:
    """Searches come to their end."""
    return False
