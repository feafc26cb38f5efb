"""What a command says where an extra that it needs is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from planner.core.errors import RunError
from planner.run.settings import PACKAGES

_PACKAGES = {
    "run": PACKAGES,
    "serve": ("starlette", "uvicorn", "prometheus_client", "cryptography"),
    "verify": ("cryptography",),
}
"""Packages that an extra brings."""


@contextmanager
def needs(extra: Literal["run", "serve", "verify"], command: str) -> Iterator[None]:
    """Around the imports that need an extra; raises RunError where a package of it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES[extra]:
            raise
        others = "; plan, simulate and estimate work without it" if extra == "run" else ""
        raise RunError(
            f"{command} needs {error.name}, which is not installed",
            f"pip install 'planner[{extra}]'{others}",
        ) from None
