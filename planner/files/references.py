"""The cards that a scenario names, each looked up where it is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from planner.core.errors import FileProblem, InvalidFileError
from planner.core.spec import Card
from planner.files.catalogue import Catalogue, Kind
from planner.files.document import Document, KeyPath

C = TypeVar("C", bound=Card)
FROM_PACKAGE = "genai-prices:"
"""Begins names of price lists that a package carries, not a card."""


@dataclass(frozen=True, slots=True)
class References:
    """Cards by kind and name, and what is wrong with the names and the cards."""

    cards: dict[tuple[Kind, str], Card] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)
    """File that each ``KIND/NAME`` came from."""
    problems: list[FileProblem] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def card(self, kind: Kind, name: str, of: type[C]) -> C:
        """The card of that name; it has been looked up before."""
        found = self.cards[kind, name]
        assert isinstance(found, of)
        return found


def look_up(document: Document, catalogue: Catalogue) -> References:
    """Every card that ``document`` names, found or told as missing at the place that names it."""
    found = References()
    tried: dict[tuple[Kind, str], str | None] = {}
    for kind, path, name in _named(document.value):
        key = (kind, name)
        if key not in tried:
            tried[key] = _try(found, catalogue, kind, name)
        message = tried[key]
        if message is not None:
            found.problems.append(document.problem(path, message))
    return found


def _try(found: References, catalogue: Catalogue, kind: Kind, name: str) -> str | None:
    """Adds the card; the message for the place that names it, where there is none of that name."""
    if catalogue.find(kind, name) is None:
        message, hint = catalogue.missing(kind, name)
        found.hints.append(hint)
        return message
    try:
        card, path = catalogue.get(kind, name)
    except InvalidFileError as error:
        found.problems.extend(error.problems)
        found.hints.append(error.hint)
        return None
    found.cards[kind, name] = card
    found.sources[f"{kind}/{name}"] = path
    return None


def _named(values: dict[str, Any]) -> Iterator[tuple[Kind, KeyPath, str]]:
    """Kind, place and name of every reference; whatever has another shape is not one."""
    places: list[tuple[Kind, KeyPath]] = [("models", ("model",)), ("engines", ("engine",))]
    places.append(("models", ("draft",)))
    places += [("quants", ("quants", index)) for index in range(_length(values, "quants"))]
    for index in range(_length(values, "nodes")):
        places.append(("devices", ("nodes", index, "device")))
        places.append(("churn", ("nodes", index, "churn")))
    places.append(("networks", ("network", "default")))
    places.append(("networks", ("network", "default", "profile")))
    network = values.get("network")
    regions = _length(network, "regions") if isinstance(network, dict) else 0
    places += [("networks", ("network", "regions", i, "profile")) for i in range(regions)]
    places += [("networks", ("links", i, "profile")) for i in range(_length(values, "links"))]
    for index in range(_length(values, "alternatives")):
        places.append(("prices", ("alternatives", index, "api", "prices")))
    for kind, path in places:
        name = _at(values, path)
        if isinstance(name, str) and name and not name.startswith(FROM_PACKAGE):
            yield kind, path, name


def _length(values: dict[str, Any], key: str) -> int:
    entries = values.get(key)
    return len(entries) if isinstance(entries, list) else 0


def _at(values: Any, path: KeyPath) -> Any:
    for part in path:
        if isinstance(values, dict):
            values = values.get(str(part))
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
        else:
            return None
    return values
