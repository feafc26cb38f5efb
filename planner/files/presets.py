"""Presets of workloads: ``workload: chat``, or ``workload: {preset: chat, requests: 50}``.

The card's keys take the place of those that the scenario does not have, in ``workload`` and in
``must_have``; then the scenario is read as if it had stated them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planner.core.errors import InvalidFileError
from planner.files.catalogue import Catalogue
from planner.files.document import Document
from planner.files.yamlfile import read_yaml

PRESET_KEYS = ("workload", "workload.preset")
"""What ``--set`` calls the name of a preset."""
_KEY = "preset"
_SAID = ("source", "as_of", "note", "id")


def expand(document: Document, known: Catalogue) -> Path | None:
    """Fills in the preset that a scenario names; the file it is from, None where it names none.

    Raises InvalidFileError where there is no such preset.
    """
    given = document.value.get("workload")
    name = given.get(_KEY) if isinstance(given, dict) else given
    if not isinstance(name, str):
        return None
    path = known.find("workloads", name)
    if path is None:
        message, hint = known.missing("workloads", name)
        place = ("workload", _KEY) if isinstance(given, dict) else ("workload",)
        raise InvalidFileError([document.problem(place, message)], hint)
    known.get("workloads", name)
    card: dict[str, Any] = dict(read_yaml(path).value)
    asked = card.pop("must_have", {})
    if "finetune" in card:
        document.value.setdefault("finetune", card.pop("finetune"))
    stated = {key: value for key, value in card.items() if key not in _SAID}
    own = given if isinstance(given, dict) else {}
    own = {key: value for key, value in own.items() if key != _KEY}
    document.value["workload"] = stated | own
    must = document.value.get("must_have")
    bounds = _bounded(must) if isinstance(must, dict) else set()
    kept = {key: value for key, value in asked.items() if _latency(key) not in bounds}
    if kept:
        document.value["must_have"] = kept | (must if isinstance(must, dict) else {})
    return path


def _latency(key: str) -> str:
    """Which latency a must-have bounds, whatever the statistic."""
    return key.split("_")[-1]


def _bounded(must: dict[str, Any]) -> set[str]:
    return {_latency(key) for key in must}
