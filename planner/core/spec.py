"""The two bases of everything that comes from a file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """A frozen value read from a file; an unknown key is an error.

    A field whose name ends in its unit may have the name without the unit as its alias: the
    alias is what people write (``memory: 24 GiB``), the name is what manifests and code use.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        allow_inf_nan=False,
        defer_build=True,
    )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values in some fields, which are not checked.

        What was computed of the old ones (``cached_property``) is left behind.
        """
        made = super().model_copy(update=update, deep=deep)
        if update:
            kept = type(self).model_fields
            for name in [name for name in made.__dict__ if name not in kept]:
                del made.__dict__[name]
        return made


class Card(Spec):
    """A fact about the world: it says where its figures are from and how old they are."""

    id: str = Field(min_length=1)
    """Name by which scenarios and other files refer to it."""
    source: str = Field(min_length=1)
    """Where the figures were read or measured."""
    as_of: datetime.date
    """Day on which the source said so."""
    note: str = ""
    """What a reader should know before relying on it."""
