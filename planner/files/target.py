"""Target: a file that is either a scenario or a manifest, as ``planner simulate`` takes both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.files.manifest import Manifest, manifest_from
from planner.files.override import override_problem
from planner.files.yamlfile import read_yaml

if TYPE_CHECKING:
    from planner.files.scenario import Scenario


def load_target(
    path: Path, profiles: Sequence[Path] = (), overrides: Sequence[str] = ()
) -> Scenario | Manifest:
    """The scenario or manifest at ``path`` with ``--set`` values applied.

    A manifest keeps its plan; its digest is then that of the changed problem. Raises
    InvalidFileError, StaleManifestError and UsageError.
    """
    document = read_yaml(path)
    if "problem_digest" not in document.value:
        from planner.files.scenario import scenario_from  # and everything that it may name

        return scenario_from(document, path, profiles, overrides)
    manifest = manifest_from(document)
    problem = override_problem(manifest.problem, overrides)
    if problem is manifest.problem:
        return manifest
    return manifest.model_copy(update={"problem": problem, "problem_digest": problem.digest})
