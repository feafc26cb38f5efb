"""What an unquoted word of a YAML file means, the classic traps closed.

YAML 1.1 reads ``012`` as ten, ``1:30`` as ninety, ``1e9`` as text and ``no`` as false. Here a
number is a number as people write it, ``true`` and ``false`` are the only truth values, and what
two readers could take for different things is refused with the mend.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NUMBER_STARTS = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"[-+]?0[0-9]+")
_BASE_60 = re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_MOST_DIGITS = 300


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar; raises ValueError, with the mend, for an ambiguous one."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in _NUMBER_STARTS:
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > _MOST_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too large")
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is too large a number")
        return number
    if _OCTAL.fullmatch(text):
        bare = text.lstrip("+-0") or "0"
        raise ValueError(
            f"{text} means {bare} to some programs and an octal number to others; "
            f"write {bare}, or '{text}' in quotes if it is a name"
        )
    if _BASE_60.fullmatch(text):
        raise ValueError(
            f"{text} is a number of base 60 to some programs; "
            f"write a time as 90 s or 1.5 min, or '{text}' in quotes if it is a name"
        )
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    return text
