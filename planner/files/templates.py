"""The bundled scenarios, to start one's own from."""

from __future__ import annotations

from planner.core.errors import UsageError
from planner.files.bundled import bundled
from planner.files.keys import did_you_mean
from planner.files.yamlfile import read_yaml


def templates() -> tuple[str, ...]:
    """Names of the templates, sorted."""
    return tuple(sorted(path.stem for path in bundled("scenarios").glob("*.yaml")))


def template(name: str) -> dict[str, str]:
    """Text by file name: the scenario first, then those it names as alternatives.

    Raises UsageError for an unknown name.
    """
    known = templates()
    if name not in known:
        message = f"no template is named {name!r}{did_you_mean(name, known)}"
        raise UsageError(message, f"templates: {', '.join(known)}")
    folder = bundled("scenarios")
    found: dict[str, str] = {}
    wanted = [f"{name}.yaml"]
    while wanted:
        file = wanted.pop(0)
        if file in found:
            continue
        path = folder / file
        found[file] = path.read_text(encoding="utf-8")
        entries = read_yaml(path).value.get("alternatives", [])
        wanted += [entry["scenario"] for entry in entries if "scenario" in entry]
    return found
