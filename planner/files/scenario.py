"""Scenario: a file that describes machines, a model and its users, resolved into a Problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from planner.core.cluster import Cluster, Network
from planner.core.engine import Engine
from planner.core.errors import FileProblem, InvalidFileError, UsageError
from planner.core.model import ModelSpec
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.core.requirements import Requirements
from planner.files.catalogue import Catalogue
from planner.files.document import Document, KeyPath, refuse
from planner.files.links import Links, missing_pairs
from planner.files.override import override
from planner.files.references import References, look_up
from planner.files.semantics import Expanded, check
from planner.files.surface import SCHEMA_VERSION, ApiEntry, RunSection, ScenarioFile
from planner.files.validate import attempt
from planner.files.yamlfile import read_yaml


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario with every name looked up."""

    name: str
    description: str
    path: Path
    problem: Problem
    alternatives: tuple[Scenario | ApiEntry, ...]
    """Other ways to serve this scenario's model and requests."""
    run: RunSection | None
    sources: Mapping[str, Path]
    """File that each ``KIND/NAME`` came from."""
    warnings: tuple[str, ...] = ()


def load_scenario(
    path: Path, profiles: Sequence[Path] = (), overrides: Sequence[str] = ()
) -> Scenario:
    """The scenario at ``path``.

    ``profiles`` are folders that are searched first, ``overrides`` the ``PATH=VALUE`` of
    ``--set``. Raises InvalidFileError with everything that is wrong with the scenario and the
    cards it names, and UsageError where an override is.
    """
    return scenario_from(read_yaml(path), path, profiles, overrides)


def scenario_from(
    document: Document, path: Path, profiles: Sequence[Path] = (), overrides: Sequence[str] = ()
) -> Scenario:
    """The scenario in a document that was read from ``path``; raises as load_scenario does."""
    override(document, overrides)
    return _Loader(tuple(profiles)).load(document, path, ())


@dataclass(slots=True)
class _Loader:
    """Loads a scenario and those it names as alternatives, each file once."""

    profiles: tuple[Path, ...]
    loaded: dict[Path, Scenario] = field(default_factory=dict)

    def load(self, document: Document, path: Path, above: tuple[Path, ...]) -> Scenario:
        """``above`` are the scenarios on the way here, the first one first."""
        catalogue = Catalogue(path.parent, self.profiles)
        given, problems = attempt(ScenarioFile, document)
        problems += _other_version(document)
        cards = look_up(document, catalogue)
        _refuse(document, problems + cards.problems, cards.hints)
        assert given is not None
        problem, problems, warnings = _problem(given, document, cards)
        _refuse(document, problems, _PATHS if problem is None else [])
        assert problem is not None
        return Scenario(
            name=given.name,
            description=given.description.strip(),
            path=path,
            problem=problem,
            alternatives=self._alternatives(given, document, path, above, problem),
            run=given.run,
            sources=dict(sorted(cards.sources.items())),
            warnings=tuple(warnings),
        )

    def _alternatives(
        self,
        given: ScenarioFile,
        document: Document,
        path: Path,
        above: tuple[Path, ...],
        problem: Problem,
    ) -> tuple[Scenario | ApiEntry, ...]:
        found: list[Scenario | ApiEntry] = []
        way = (*above, path.resolve())
        for index, entry in enumerate(given.alternatives):
            if entry.api is not None:
                found.append(entry.api)
                continue
            place = ("alternatives", index, "scenario")
            other = path.parent / (entry.scenario or "")
            resolved = other.resolve()
            if resolved in way:
                names = [step.name for step in way[way.index(resolved) :]]
                message = "cyclic: " + " -> ".join([*names, other.name])
                _refuse(document, [document.problem(place, message)], [])
            if not other.exists():
                message = f"{other} does not exist; paths start at the scenario"
                _refuse(document, [document.problem(place, message)], [])
            if resolved not in self.loaded:
                self.loaded[resolved] = self.load(read_yaml(other), other, way)
            scenario = self.loaded[resolved]
            served = _serving(scenario, problem, document, place)
            found.append(replace(scenario, problem=served))
        return tuple(found)


_PATHS = ["network: {default: PROFILE} joins all nodes; links: joins single ones"]


def _refuse(document: Document, problems: Sequence[FileProblem], hints: Sequence[str]) -> None:
    """Raises UsageError where an override is wrong, InvalidFileError for anything else."""
    arguments = set(document.overridden.values())
    mine = [problem for problem in problems if problem.file in arguments]
    hint = "\n".join(dict.fromkeys(hint for hint in hints if hint))
    if mine:
        raise UsageError("\n".join(str(problem) for problem in mine), hint)
    refuse(list(problems), hint)


def _other_version(document: Document) -> list[FileProblem]:
    stated = document.value.get("schema_version", SCHEMA_VERSION)
    if str(stated).split(".")[0] == SCHEMA_VERSION.split(".")[0]:
        return []
    message = f"{stated} is no version this planner reads; it reads {SCHEMA_VERSION}"
    return [document.problem(("schema_version",), message)]


def _problem(
    given: ScenarioFile, document: Document, cards: References
) -> tuple[Problem | None, list[FileProblem], list[str]]:
    """The problem, or what keeps the scenario from being one; and warnings."""
    expanded = Expanded.of(given, cards)
    links = Links(document, lambda name: cards.card("networks", name, Network))
    links.add_network(given.network, (node.region for node in expanded.nodes))
    links.add_links(given.links, expanded.ids)
    problems, warnings = check(given, document, cards, expanded)
    problems += links.problems
    if not problems:
        problems += _unreachable(document, expanded, links)
    if problems:
        return None, problems, warnings
    try:
        return _assemble(given, expanded, cards, links), [], warnings
    except ValidationError as error:
        said = [one["msg"].removeprefix("Value error, ") for one in error.errors()]
        return None, [document.problem((), message) for message in said], warnings


def _unreachable(document: Document, expanded: Expanded, links: Links) -> list[FileProblem]:
    pairs, more = missing_pairs(expanded.nodes, expanded.coordinator, links.made)
    said = [f"no line leads from {src} to {dst}" for src, dst in pairs]
    if more:
        said.append("... and more pairs without a line")
    key = next((key for key in ("links", "network") if key in document.value), "nodes")
    return [document.problem((key,), message) for message in said]


def _assemble(given: ScenarioFile, expanded: Expanded, cards: References, links: Links) -> Problem:
    return Problem(
        name=given.name,
        cluster=Cluster(
            devices=tuple(expanded.devices.values()),
            nodes=expanded.nodes,
            links=tuple(links.made.values()),
            churn=tuple(expanded.churn.values()),
            coordinator=expanded.coordinator,
        ),
        model=cards.card("models", given.model, ModelSpec),
        engine=cards.card("engines", given.engine, Engine),
        quants=tuple(cards.card("quants", name, QuantScheme) for name in given.quants),
        workload=given.workload,
        requirements=Requirements(
            objective=given.objective,
            must_have=given.must_have,
            nice_to_have=given.nice_to_have,
        ),
        serving=given.serving,
    )


def _serving(scenario: Scenario, problem: Problem, document: Document, place: KeyPath) -> Problem:
    """The alternative's machines under the model and the requests of ``problem``."""
    changes = {name: getattr(problem, name) for name in ("model", "workload", "requirements")}
    mine = scenario.problem
    values = {name: getattr(mine, name) for name in Problem.model_fields} | changes
    try:
        return Problem.model_validate(values)
    except ValidationError as error:
        said = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
        raise InvalidFileError([document.problem(place, said)]) from None
