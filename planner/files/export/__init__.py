"""Exports: a plan as what other engines take, and what of it they cannot express."""

from __future__ import annotations

from collections.abc import Callable

from planner.files.export import kubernetes, llamacpp, parallax, petals, skypilot, vllm
from planner.files.export.exported import Export
from planner.files.manifest import Manifest

ENGINES: dict[str, Callable[[Manifest], Export]] = {
    "vllm": vllm.export,
    "llama.cpp": llamacpp.export,
    "petals": petals.export,
    "parallax": parallax.export,
    "skypilot": skypilot.export,
    "kubernetes": kubernetes.export,
}

__all__ = ["ENGINES", "Export"]
