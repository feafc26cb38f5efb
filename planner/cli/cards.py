"""Cards that a command line names: a wrong name there is a wrong command line, not a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from planner.core.errors import UsageError

if TYPE_CHECKING:
    from planner.core.spec import Card
    from planner.files.catalogue import Catalogue, Kind

C = TypeVar("C", bound="Card")


def catalogue(profiles: Sequence[Path] | None) -> Catalogue:
    """The catalogue as seen from the working directory; refuses a folder that is none."""
    from planner.files.catalogue import Catalogue

    for folder in profiles or ():
        if not folder.is_dir():
            raise UsageError(f"--profiles {folder} is no folder")
    return Catalogue(Path(), tuple(profiles or ()))


def card(known: Catalogue, kind: Kind, name: str, of: type[C]) -> C:
    """The card that ``name`` means; raises UsageError with what it may have been meant to be."""
    if kind == "models" and known.find(kind, name) is None and Path(name, "config.json").is_file():
        name = f"./{name}"
    if known.find(kind, name) is None:
        from planner.files.names import resolve

        name = resolve(known, kind, name) or name
    if known.find(kind, name) is None:
        message, hint = known.missing(kind, name)
        raise UsageError(message, hint)
    return known.get_as(kind, name, of)[0]
