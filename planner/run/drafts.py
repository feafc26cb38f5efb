"""Drafts: guesses of the next tokens that one step checks together, and what is kept of them.

Answers often repeat what stands in the prompt, such as names, quotes and code. So what followed
the latest tokens the last time they occurred is a guess that costs nothing ("prompt lookup").
"""

from __future__ import annotations

from collections.abc import Sequence

_GRAMS = (3, 2)
"""Latest tokens that are looked for, longer matches first."""


def look_up(ids: Sequence[int], most: int) -> list[int]:
    """Up to ``most`` tokens that followed the last earlier occurrence of the latest ones."""
    for length in _GRAMS:
        latest = list(ids[-length:])
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start : start + length] == latest:
                return list(ids[start + length : start + length + most])
    return []


def kept(drafts: Sequence[int], picked: Sequence[int]) -> tuple[int, ...]:
    """Tokens that a step brings: the model's own picks, up to the first that no draft foresaw.

    ``picked`` has one more than ``drafts``: what follows the latest token, and each draft after it.
    """
    for place, draft in enumerate(drafts):
        if draft != picked[place]:
            return tuple(picked[: place + 1])
    return tuple(picked)
