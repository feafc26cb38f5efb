"""Values of core as people write them: short names, units with the figures."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from planner.core.spec import Card
from planner.core.units import UNITS, parse
from planner.files.atomic import write_text
from planner.files.catalogue import CARDS
from planner.files.keys import written
from planner.files.yamltext import to_yaml

_DIMENSIONS = sorted(set(UNITS) - {"fraction"}, key=len, reverse=True)
_UNUSUAL = frozenset({"TOP/s", "USD/d", "USD/month", "USD/MWh", "req/h", "req/d"})
"""Units that are read but not written: another one says the same more plainly."""
_SHORT = 5


def readable(value: object, *, exact: bool = False, name: str = "", brief: bool = False) -> Any:
    """``value`` as mappings, lists, text and numbers, each dimension with its unit.

    ``exact`` keeps every digit, so that reading it back gives the same value; otherwise four
    digits are shown. ``brief`` leaves out what a field has by default.
    """
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            written(key, info): readable(inner, exact=exact, name=key, brief=brief)
            for key, info in fields.items()
            if (inner := getattr(value, key)) is not None
            and not (brief and not info.is_required() and inner == info.get_default())
        }
    if isinstance(value, Mapping):
        return {
            str(key): readable(inner, exact=exact, name=name, brief=brief)
            for key, inner in value.items()
        }
    if isinstance(value, (tuple, list)):
        return [readable(inner, exact=exact, name=name, brief=brief) for inner in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    dimension = _dimension(name)
    if dimension is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    text = quantity(float(value), dimension)
    if exact or len(text.split()[0]) <= _SHORT:
        return text
    return _rounded(float(value), dimension)


def quantity(value: float, dimension: str) -> str:
    """``value`` with the unit that needs the fewest digits; read back it is exactly the same.

    A value that no unit writes exactly is off by its last bit.
    """
    units = _units(dimension)
    texts = [
        text
        for unit, size in units.items()
        for number in _near(value / size)
        if parse(text := f"{_number(number)} {unit}", dimension) == value
    ]
    if texts:
        return min(texts, key=lambda text: len(text.split()[0]))
    unit, size = next(iter(units.items()))
    return f"{value / size!r} {unit}"


def write_card(folder: Path, card: Card) -> Path:
    """Writes a card where a catalogue of ``folder`` finds it; returns the file."""
    kind = next(kind for kind, model in CARDS.items() if type(card) is model)
    path = folder / kind / f"{card.id}.yaml"
    values = readable(card, exact=True, brief=True)
    del values["id"]
    write_text(path, to_yaml(values))
    return path


def _dimension(name: str) -> str | None:
    """The dimension that the end of a field's name states."""
    if name.startswith("usd_per_") and name.endswith("_token"):
        return "usd_per_token"
    name = name.removesuffix("_per_month")  # a volume; the key says of what time
    found = (one for one in _DIMENSIONS if name == one or name.endswith("_" + one))
    return next(found, None)


def _units(dimension: str) -> dict[str, float]:
    return {unit: size for unit, size in UNITS[dimension].items() if unit not in _UNUSUAL}


def _rounded(value: float, dimension: str) -> str:
    """Four digits in the largest unit that keeps the number at least 1."""
    units = _units(dimension)
    if dimension == "bytes":
        units = {unit: size for unit, size in units.items() if "i" in unit or unit == "B"}
    fitting = [(size, unit) for unit, size in units.items() if abs(value) >= size]
    size, unit = max(fitting) if fitting else min((size, unit) for unit, size in units.items())
    return f"{value / size:.4g} {unit}"


def _near(number: float) -> tuple[float, float, float]:
    """A quotient and its neighbours, one of which the product may round back to."""
    return number, math.nextafter(number, math.inf), math.nextafter(number, 0.0)


def _number(number: float) -> str:
    return repr(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
