"""What a command says where the extra that executes models is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from planner.core.errors import RunError

_EXTRA = ("torch", "safetensors", "tokenizers")
_SERVING = ("starlette", "uvicorn", "prometheus_client", "cryptography")


@contextmanager
def torch_needed(command: str) -> Iterator[None]:
    """Around the imports of ``planner.run``; raises RunError where torch is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise RunError(
            f"{command} needs {error.name}, which is not installed",
            "pip install 'planner[run]'; plan, simulate and estimate work without it",
        ) from None


@contextmanager
def serving_needed(command: str) -> Iterator[None]:
    """Around the imports of ``planner.run.serving``; raises RunError where a library is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _SERVING:
            raise
        raise RunError(
            f"{command} needs {error.name}, which is not installed",
            "pip install 'planner[serve]'",
        ) from None


@contextmanager
def cryptography_needed(command: str) -> Iterator[None]:
    """Around the imports of ``planner.receipts``; raises RunError where its library is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "cryptography":
            raise
        raise RunError(
            f"{command} needs cryptography, which is not installed",
            "pip install 'planner[verify]'",
        ) from None
