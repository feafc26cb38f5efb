"""Dimensions: text with a unit becomes a float in base units, and back.

Inside the program everything is in seconds, bytes, bytes/s, FLOP/s, watts, joules and USD.
In a file a dimension carries its unit (``24 GiB``, ``100 Mbit/s``); a bare number is refused
there, because ``gbps`` read as ``GB/s`` is how planners end up eight times wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo

FROM_FILE = "from_file"
"""Validation context key: true while a file that people write is read."""

_BYTES = {
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "TiB": 2.0**40,
}
_BITS = {"bit": 1 / 8, "kbit": 1e3 / 8, "Mbit": 1e6 / 8, "Gbit": 1e9 / 8, "Tbit": 1e12 / 8}
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "y": 365.25 * 86400.0,
}
_FLOPS = {"GFLOP/s": 1e9, "TFLOP/s": 1e12, "PFLOP/s": 1e15, "TOP/s": 1e12}
_JOULES_PER_KWH = 3.6e6

UNITS: Mapping[str, Mapping[str, float]] = {
    "bytes": _BYTES,
    "bytes_per_s": {f"{unit}/s": size for unit, size in (_BYTES | _BITS).items()},
    "s": _SECONDS,
    "flop_per_s": _FLOPS,
    "w": {"mW": 1e-3, "W": 1.0, "kW": 1e3},
    "usd": {"USD": 1.0},
    "usd_per_hour": {"USD/h": 1.0, "USD/d": 1 / 24, "USD/month": 1 / 730},
    "usd_per_byte": {f"USD/{unit}": 1 / size for unit, size in _BYTES.items()},
    "usd_per_joule": {"USD/kWh": 1 / _JOULES_PER_KWH, "USD/MWh": 1e-3 / _JOULES_PER_KWH},
    "usd_per_token": {"USD/Mtok": 1e-6, "USD/tok": 1.0},
    "requests_per_s": {"req/s": 1.0, "req/min": 1 / 60, "req/h": 1 / 3600, "req/d": 1 / 86400},
    "tokens_per_s": {"tok/s": 1.0},
    "fraction": {"%": 0.01},
}
"""Spellings by dimension, each with its size in the base unit."""

_EXAMPLES = {
    "bytes": "24 GiB",
    "bytes_per_s": "936 GB/s or 100 Mbit/s",
    "s": "35 ms",
    "flop_per_s": "165 TFLOP/s",
    "w": "450 W",
    "usd": "1600 USD",
    "usd_per_hour": "0.40 USD/h",
    "usd_per_byte": "0.09 USD/GB",
    "usd_per_joule": "0.18 USD/kWh",
    "usd_per_token": "0.40 USD/Mtok",
    "requests_per_s": "2 req/s",
    "tokens_per_s": "30 tok/s",
    "fraction": "0.5 or 50 %",
}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")


def parse(text: str, dimension: str) -> float:
    """The value of ``text`` in the base unit of ``dimension``; raises ValueError with the mend."""
    match = _QUANTITY.fullmatch(text)
    example = _EXAMPLES[dimension]
    if match is None:
        raise ValueError(f"{text!r} is not a quantity; write it like {example}")
    number, unit = float(match[1]), match[2]
    spellings = UNITS[dimension]
    if unit in spellings:
        return number * spellings[unit]
    if not unit:
        if dimension == "fraction":
            return number
        raise ValueError(f"{text!r} has no unit; write it like {example}")
    near = [known for known in spellings if known.casefold() == unit.casefold()]
    choice = f"did you mean {near[0]}?" if near else "choose from " + ", ".join(spellings)
    raise ValueError(f"unit {unit!r} does not fit here; {choice}")


def show(value: float, dimension: str, digits: int = 4) -> str:
    """``value`` with the largest decimal or binary unit that, rounded, keeps it at least 1."""
    spellings = UNITS[dimension]
    if dimension == "bytes":
        spellings = {unit: size for unit, size in spellings.items() if "i" in unit or unit == "B"}
    if dimension == "bytes_per_s":
        spellings = {unit: size for unit, size in spellings.items() if "i" not in unit}
    fitting = [
        (size, unit)
        for unit, size in spellings.items()
        if abs(float(f"{value / size:.{digits}g}")) >= 1
    ]
    size, unit = (
        max(fitting, key=lambda entry: entry[0])
        if fitting
        else min((s, u) for u, s in spellings.items())
    )
    number = f"{value / size:.{digits}g}"
    if "e+0" in number:
        number = f"{float(number):.0f}"
    return f"{number} {unit}"


def plain(value: float, digits: int = 4) -> str:
    """``value`` in so many digits, thousands marked; never as a power of ten."""
    rounded = float(f"{value:.{digits}g}")
    large = abs(rounded) >= 10 ** (digits - 1)
    return f"{rounded:,.0f}" if large else f"{Decimal(f'{rounded:.{digits}g}'):f}"


def _reader(dimension: str) -> Callable[[object, ValidationInfo], float]:
    def read(value: object, info: ValidationInfo) -> float:
        if isinstance(value, str):
            number = parse(value, dimension)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if info.context and info.context.get(FROM_FILE) and dimension != "fraction":
                raise ValueError(f"{value!r} has no unit; write it like {_EXAMPLES[dimension]}")
            number = float(value)
        else:
            raise ValueError(f"{value!r} is not a quantity; write it like {_EXAMPLES[dimension]}")
        if not math.isfinite(number):
            raise ValueError(f"{value!r} is not a finite number")
        if number < 0:
            raise ValueError(f"{value!r} is negative")
        return number

    return read


Bytes = Annotated[float, BeforeValidator(_reader("bytes"))]
BytesPerSecond = Annotated[float, BeforeValidator(_reader("bytes_per_s"))]
Seconds = Annotated[float, BeforeValidator(_reader("s"))]
FlopPerSecond = Annotated[float, BeforeValidator(_reader("flop_per_s"))]
Watts = Annotated[float, BeforeValidator(_reader("w"))]
Usd = Annotated[float, BeforeValidator(_reader("usd"))]
UsdPerHour = Annotated[float, BeforeValidator(_reader("usd_per_hour"))]
UsdPerByte = Annotated[float, BeforeValidator(_reader("usd_per_byte"))]
UsdPerJoule = Annotated[float, BeforeValidator(_reader("usd_per_joule"))]
UsdPerToken = Annotated[float, BeforeValidator(_reader("usd_per_token"))]
RequestsPerSecond = Annotated[float, BeforeValidator(_reader("requests_per_s"))]
TokensPerSecond = Annotated[float, BeforeValidator(_reader("tokens_per_s"))]
Fraction = Annotated[float, BeforeValidator(_reader("fraction")), Field(le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
