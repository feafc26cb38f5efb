"""Manifest: a plan with the whole problem it was made for, and what was predicted of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

import planner
from planner.core.choice import decided
from planner.core.errors import FileProblem, InvalidFileError, StaleManifestError
from planner.core.plan import Plan, Stage
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.spec import Spec
from planner.core.units import show
from planner.files.atomic import write_text
from planner.files.document import Document, KeyPath, holds, refuse
from planner.files.runsection import RunSection
from planner.files.validate import M, explain
from planner.files.yamlfile import read_yaml
from planner.files.yamltext import to_yaml
from planner.plan.reasons import Reasons
from planner.plan.room import capacity_bytes, stage_needs

SCHEMA_VERSION = "1.0"

_HEADER = """\
# A plan made by planner: who holds which layers, the problem it solves and what was predicted.
# Written by `planner plan` and read by simulate, run, show and diff; times are in seconds, sizes
# in bytes, names end in their unit. The plan may be edited; a changed problem needs a new plan.
"""


class ObjectiveValue(Spec):
    """What the plan was chosen for, and what it reaches."""

    name: str
    value: float | None
    unit: str
    direction: Literal["min", "max"]


class Bound(Spec):
    """How good any plan could be, and how far this one may be from it."""

    value: float | None = None
    gap: float | None = None
    """As a fraction; 0 is proven optimal, None where nothing is proven."""
    weights: Literal["any", "equal"] = "any"
    """Whether they are about plans of any routing weights, or of equal ones."""


class Manifest(Spec):
    """All that simulate and run need."""

    model_config = ConfigDict(extra="ignore")

    schema_version: str = SCHEMA_VERSION
    tool_version: str = planner.__version__
    problem_digest: str
    plan_digest: str | None = None
    """That of the plan that the prediction is about; None where nobody said."""
    seed: int = 0
    objective: ObjectiveValue
    bound: Bound = Bound()
    solver: str = Field(min_length=1)
    stopped: str | None = None
    """Why the search ended: proven, effort, or a time limit."""
    warnings: tuple[str, ...] = ()
    run: RunSection | None = None
    """What the scenario says of the checkpoint to execute."""
    plan: Plan
    prediction: Prediction
    reasons: Reasons = Reasons()
    """What else was weighed, what limits the plan and what would change the choice."""
    problem: Problem


def manifest_text(manifest: Manifest) -> str:
    """The bytes of a manifest, equal for equal manifests."""
    return _HEADER + to_yaml(manifest.model_dump(mode="json"))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest whole or not at all; raises InvalidFileError."""
    write_text(path, manifest_text(manifest))


def read_manifest(path: Path) -> Manifest:
    """The manifest at ``path``.

    Raises InvalidFileError for a file that is none, StaleManifestError for one that another
    version of planner wrote and for one whose problem was edited after it was planned.
    """
    return manifest_from(read_yaml(path))


def manifest_from(document: Document) -> Manifest:
    """The manifest in a document; raises as read_manifest does."""
    _check_version(document)
    if document.value.get("problem") is None:
        raise InvalidFileError([document.problem(("problem",), "is missing")], _MADE_BY)
    if digest_of(document.value["problem"]) != document.value["problem_digest"]:
        raise StaleManifestError(
            f"the problem in {document.file} was changed after it was planned",
            "change the scenario and plan again, or change single values with --set",
        )
    manifest = _build(document)
    refuse(list(_misfits(manifest, document)))
    if manifest.plan_digest not in (None, plan_digest(manifest.plan)):
        return _predicted_anew(manifest)
    return manifest


def plan_digest(plan: Plan) -> str:
    """SHA-256 over the canonical JSON of a plan."""
    return digest_of(plan.model_dump(mode="json"))


def _predicted_anew(manifest: Manifest) -> Manifest:
    """The manifest of a plan that somebody changed, with what is predicted of that plan.

    What the search knew was about another one.
    """
    from planner.plan.predict import predict
    from planner.plan.promise import objective_value

    prediction = predict(manifest.problem, manifest.plan)
    value = objective_value(manifest.problem, prediction.metrics)
    changes = {
        "plan_digest": plan_digest(manifest.plan),
        "objective": manifest.objective.model_copy(update={"value": value}),
        "bound": Bound(),
        "solver": "none: the plan was edited",
        "stopped": None,
        "warnings": ("the plan was edited: its prediction is a new one", *prediction.warnings),
        "prediction": prediction,
        "reasons": Reasons(),
    }
    return manifest.model_copy(update=changes)


@dataclass(frozen=True, slots=True)
class Running:
    """What runs, and what it was planned for."""

    plan: Plan
    """With where its coordinator sits."""
    problem: Problem | None
    """None where another version of planner wrote it in words that this one does not know."""
    edited: bool
    """Whether somebody changed the problem after it was planned."""


def read_running(path: Path) -> Running:
    """What the manifest at ``path`` says that runs; another version may have written it.

    Raises InvalidFileError, and StaleManifestError for one of another format.
    """
    document = read_yaml(path)
    _check_version(document)
    if "plan" not in document.value:
        raise InvalidFileError([document.problem(("plan",), "is missing")], _MADE_BY)
    plan = _tolerant(Plan, document, ("plan",))
    if not isinstance(plan, Plan):
        refuse(plan)
        raise InvalidFileError([FileProblem(document.file, "has no plan")], _MADE_BY)
    written: Any = document.value.get("problem")
    edited = digest_of(written) != document.value["problem_digest"]
    seat = written
    for key in ("cluster", "coordinator"):
        seat = seat[key] if holds(seat, key) else None
    if plan.coordinator is None and isinstance(seat, str):
        plan = plan.model_copy(update={"coordinator": seat})
    problem = _tolerant(Problem, document, ("problem",)) if isinstance(written, dict) else None
    return Running(plan, problem if isinstance(problem, Problem) else None, edited)


def _check_version(document: Document) -> None:
    """Raises InvalidFileError for no manifest, StaleManifestError for one of another format."""
    stated = str(document.value.get("schema_version", ""))
    if "problem_digest" not in document.value or not stated:
        message = "is no manifest: it lacks schema_version or problem_digest"
        raise InvalidFileError([FileProblem(document.file, message)], _MADE_BY)
    if stated.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise StaleManifestError(
            f"{document.file} has schema version {stated}, this planner reads {SCHEMA_VERSION}",
            "plan again with this planner, or use the version that wrote it: "
            f"{document.value.get('tool_version', 'unknown')}",
        )


def check_digest(manifest: Manifest, problem: Problem) -> None:
    """Raises StaleManifestError where the manifest was planned for another problem."""
    problem = decided(problem, manifest.plan)
    if manifest.problem.digest != problem.digest:
        raise StaleManifestError(
            f"the manifest was planned for another problem than {problem.name} is now "
            f"({manifest.problem.digest[:12]} is not {problem.digest[:12]})",
            "plan again: planner plan SCENARIO --out MANIFEST",
        )


def digest_of(problem: object) -> str:
    """SHA-256 over the canonical JSON of a problem as stored, as ``Problem.digest`` has it."""
    text = json.dumps(problem, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, by which logs and warrants name a manifest; raises InvalidFileError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        problem = FileProblem(str(path), f"cannot be read: {error.strerror}")
        raise InvalidFileError([problem]) from None


_MADE_BY = "planner plan SCENARIO --out MANIFEST writes one"


def _build(document: Document) -> Manifest:
    """The manifest, keys that a later minor version added being ignored.

    Raises StaleManifestError where the problem, which nobody changed since it was planned, is not
    written as this planner writes one.
    """
    made = _tolerant(Manifest, document)
    if isinstance(made, Manifest):
        return made
    foreign = next((one for one in made if one.path.startswith("problem.")), None)
    if foreign is not None:
        said = f"{foreign.message} (another version of planner wrote it)"
        raise StaleManifestError(
            str(replace(foreign, message=said)),
            "plan the scenario again: planner plan SCENARIO --out MANIFEST",
        )
    refuse(made)
    raise InvalidFileError([FileProblem(document.file, "is no manifest")], _MADE_BY)


def _tolerant(model: type[M], document: Document, path: KeyPath = ()) -> M | list[FileProblem]:
    """The value at ``path`` without the keys that nobody knows here, or what is wrong with it."""
    given = document.at(path)
    for _ in range(2):
        try:
            return model.model_validate(given)
        except ValidationError as error:
            failure = error
            for one in error.errors(include_url=False):
                if one["type"] == "extra_forbidden":
                    _drop(given, one["loc"])
    return explain(failure, model, document, path, given)


def _drop(values: Any, location: tuple[int | str, ...]) -> None:
    """Removes the key at ``location``, skipping the parts that name a union's branch."""
    for part in location[:-1]:
        if holds(values, part):
            values = values[part]
    if isinstance(values, dict):
        values.pop(str(location[-1]), None)


def _too_large(problem: Problem, stage: Stage, seats: int) -> str:
    """What a stage with so many seats lacks on its node; empty where it fits.

    An engine that hands out cache in blocks needs it for one of the longest requests.
    """
    if stage.stop > problem.model.num_hidden_layers:
        return ""
    needed = stage_needs(problem, stage, seats)
    need_bytes = needed.total_bytes
    if problem.continuous:
        one = stage_needs(problem, stage, 1)
        need_bytes += one.kv_bytes - needed.kv_bytes
    room_bytes = capacity_bytes(problem, stage.node)
    if need_bytes <= room_bytes * (1 + 1e-9):
        return ""
    return (
        f"layers {stage.start} to {stage.stop - 1} with max_num_seqs {seats} need "
        f"{show(need_bytes, 'bytes')} on {stage.node}, which has {show(room_bytes, 'bytes')}: "
        "give it fewer of either"
    )


def _misfits(manifest: Manifest, document: Document) -> list[FileProblem]:
    """Where an edited plan does not fit its problem."""
    problem, plan = manifest.problem, manifest.plan
    workers = {node.id for node in problem.cluster.workers}
    quants = {quant.id for quant in problem.quants}
    found: list[FileProblem] = []
    for index, pipeline in enumerate(plan.pipelines):
        at: KeyPath = ("plan", "pipelines", index, "stages")
        for number, stage in enumerate(pipeline.stages):
            if stage.node not in workers:
                message = f"{stage.node!r} is no node with a device"
                found.append(document.problem((*at, number, "node"), message))
            if stage.quant not in quants:
                message = f"{stage.quant!r} is no quantization of the problem"
                found.append(document.problem((*at, number, "quant"), message))
            known = stage.node in workers and stage.quant in quants
            if known and (message := _too_large(problem, stage, pipeline.max_num_seqs)):
                found.append(document.problem((*at, number, "stop"), message))
        layers = problem.model.num_hidden_layers
        if pipeline.stages[-1].stop != layers:
            message = f"stages end at layer {pipeline.stages[-1].stop} of {layers}"
            found.append(document.problem((*at, len(pipeline.stages) - 1, "stop"), message))
    home = problem.cluster.coordinator
    if plan.coordinator not in (None, home):
        message = f"the problem has its coordinator at {home}; plan again to have it elsewhere"
        found.append(document.problem(("plan", "coordinator"), message))
    drafts = problem.serving.draft_tokens
    if plan.draft_tokens not in (None, drafts):
        message = f"the problem drafts {drafts} tokens; plan again to have another number"
        found.append(document.problem(("plan", "draft_tokens"), message))
    for index, standby in enumerate(plan.standbys):
        pipelines = len(plan.pipelines)
        if standby.pipeline >= pipelines or standby.stage >= len(
            plan.pipelines[standby.pipeline].stages
        ):
            message = f"there is no stage {standby.stage} of pipeline {standby.pipeline}"
            found.append(document.problem(("plan", "standbys", index, "stage"), message))
        if standby.node not in workers:
            message = f"{standby.node!r} is no node with a device"
            found.append(document.problem(("plan", "standbys", index, "node"), message))
    return found
