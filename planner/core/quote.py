"""Quote: one price with where it is from."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quote:
    """One price."""

    list: str
    provider: str
    what: str
    kind: str
    """How it is let or charged."""
    region: str
    value: str
    as_of: datetime.date
    source: str
    file: str
    """The file that won, or the package."""
    beats: tuple[str, ...]
    """Files with a list of the same name that lost against it."""
