"""The checkpoint that ``planner run`` executes: given, named by the manifest, or made."""

from __future__ import annotations

import os
from pathlib import Path

from planner.cli import console
from planner.core.errors import UsageError
from planner.core.model import ModelSpec
from planner.files.manifest import Manifest
from planner.files.runsection import Origin
from planner.run.seeded import make_checkpoint


def choose(manifest: Manifest, path: Path, given: Path | None) -> Path:
    """The model directory to execute; a seeded one is made where it is missing.

    ``given`` comes from the command line; ``path`` is the manifest's, from which its own paths
    start. Raises UsageError where nothing is named.
    """
    found = _found(manifest.run, manifest.problem.model, path, given)
    if found is None:
        raise UsageError(
            f"{path} names no model to execute",
            "give --checkpoint DIR, or plan a scenario with run: {checkpoint: DIR}",
        )
    return found


def choose_draft(manifest: Manifest, path: Path, given: Path | None) -> Path | None:
    """The directory of the plan's draft model, as ``choose``; None for a plan without one."""
    draft, section = manifest.problem.draft, manifest.run
    if draft is None or manifest.problem.serving.speculation is None:
        if given is not None:
            raise UsageError(
                f"{path} drafts with no model",
                "leave out --draft, or plan a scenario with draft: MODEL",
            )
        return None
    found = _found(section.draft if section else None, draft, path, given)
    if found is None:
        raise UsageError(
            f"{path} drafts with {draft.id} and does not say where its weights are",
            "give --draft DIR, or plan a scenario with run: {draft: {checkpoint: DIR}}",
        )
    return found


def _found(section: Origin | None, model: ModelSpec, path: Path, given: Path | None) -> Path | None:
    """The directory that is named on the command line or in a manifest; None where none is."""
    seeded = section.seeded if section else None
    if given is not None and (seeded is None or (given.exists() and _any_inside(given))):
        return given
    if seeded is not None:
        folder = given or _cache() / f"{_plain(model.id)}-{seeded.seed}-{seeded.dtype}"
        with console.progress(f"making the model {model.id}"):
            return make_checkpoint(folder, model, seeded.seed, seeded.dtype)
    if section is not None and section.checkpoint is not None:
        return path.parent / section.checkpoint
    return given


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
