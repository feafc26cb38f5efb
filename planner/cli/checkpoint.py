"""The checkpoint that ``planner run`` executes: given, named by the manifest, or made."""

from __future__ import annotations

import os
from pathlib import Path

from planner.cli import console
from planner.core.errors import UsageError
from planner.files.manifest import Manifest
from planner.run.seeded import make_checkpoint


def choose(manifest: Manifest, path: Path, given: Path | None) -> Path:
    """The model directory to execute; a seeded one is made where it is missing.

    ``given`` comes from the command line; ``path`` is the manifest's, from which its own paths
    start. Raises UsageError where nothing is named.
    """
    section = manifest.run
    seeded = section.seeded if section else None
    model = manifest.problem.model
    if given is not None and (seeded is None or (given.exists() and _any_inside(given))):
        return given
    if seeded is not None:
        folder = given or _cache() / f"{_plain(model.id)}-{seeded.seed}-{seeded.dtype}"
        with console.progress(f"making the model {model.id}"):
            return make_checkpoint(folder, model, seeded.seed, seeded.dtype)
    if section is not None and section.checkpoint is not None:
        return path.parent / section.checkpoint
    raise UsageError(
        f"{path} names no model to execute",
        "give --checkpoint DIR, or plan a scenario with run: {checkpoint: DIR}",
    )


def _any_inside(folder: Path) -> bool:
    """Whether there is anything in a folder; a file counts as something."""
    return not folder.is_dir() or any(folder.iterdir())


def _cache() -> Path:
    """Where models are kept that this command made."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "planner" / "checkpoints"


def _plain(name: str) -> str:
    """A name without anything that would lead to another folder."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
