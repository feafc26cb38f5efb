"""Since: what runs, and what has become of the problem it was planned for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.core.plan import Plan
    from planner.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Since:
    """A plan that runs, and what changed since it was made."""

    runs: Plan
    """With the weights that are still of use."""
    drift: tuple[tuple[str, Any, Any], ...] | None
    """Values that changed: path, before and now; None where nobody knows."""
    warnings: tuple[str, ...]


def since_then(path: Path, problem: Problem) -> Since:
    """What the manifest at ``path`` says that runs, and what is another ``problem`` by now.

    Raises InvalidFileError and StaleManifestError.
    """
    from planner.core.choice import decided
    from planner.files.difference import changes
    from planner.files.manifest import read_running
    from planner.plan.replan import as_held

    running = read_running(path)
    planned, warnings = running.problem, []
    if running.edited:
        warnings.append(
            f"the problem in {path} was changed after it was planned; what runs is its plan, and "
            "what changed since is told from what it says now"
        )
    if planned is None:
        warnings.append(
            f"another version of planner wrote the problem in {path}: what changed since is unknown"
        )
        return Since(running.plan, None, tuple(warnings))
    if planned.model.id != problem.model.id:
        warnings.append(
            f"{path} runs {planned.model.id}, not {problem.model.id}: all weights are loaded anew"
        )
    drift = changes(planned, decided(problem, running.plan))
    told = tuple((one.path, one.before, one.after) for one in drift)
    return Since(as_held(running.plan, planned, problem), told, tuple(warnings))
