"""The bundled scenarios, to start one's own from."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from planner.core.errors import UsageError
from planner.files.bundled import bundled
from planner.files.keys import did_you_mean
from planner.files.yamlfile import read_yaml


def templates() -> tuple[str, ...]:
    """Names of the templates, sorted."""
    return tuple(sorted(path.stem for path in bundled("scenarios").glob("*.yaml")))


def template(name: str, target: Path) -> dict[str, str]:
    """Text by file name: the scenario first, then those it names as alternatives.

    The first is named like the folder ``target`` that it is for, and the commands in its comments
    lead there. Raises UsageError for an unknown name.
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
        text = path.read_text(encoding="utf-8")
        if not found and (title := target.resolve().name):
            text = re.sub(r"(?m)^name: .*$", lambda _: f"name: {json.dumps(title)}", text, count=1)
        found[file] = re.sub(
            r"(?m)^(#.* )scenarios/([\w-]+\.yaml)",
            lambda said: said[1] + shlex.quote(str(target / said[2])),
            text,
        )
        entries = read_yaml(path).value.get("alternatives", [])
        wanted += [entry["scenario"] for entry in entries if "scenario" in entry]
    return found
