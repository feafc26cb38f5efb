"""Scenario: a file that describes machines, a model and its users, resolved into a Problem."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from planner.core.cluster import Cluster, Network
from planner.core.engine import Engine
from planner.core.errors import FileProblem, InvalidFileError, UsageError
from planner.core.finetune import FineTune
from planner.core.model import ModelSpec
from planner.core.prefix import PrefixCache
from planner.core.prices import PriceList
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.core.requirements import Requirements
from planner.files.alternatives import Api, api_of_package
from planner.files.catalogue import Catalogue
from planner.files.document import Document, KeyPath, refuse
from planner.files.drafting import check_draft, draft_warnings, fill_in_acceptance
from planner.files.keys import did_you_mean
from planner.files.links import Links, missing_pairs
from planner.files.offers import Offer, Unavailable
from planner.files.override import override
from planner.files.owned import owned
from planner.files.presets import PRESET_KEYS, expand
from planner.files.references import FROM_PACKAGE, References, look_up
from planner.files.rented import rented
from planner.files.runsection import RunSection
from planner.files.semantics import Expanded, check
from planner.files.surface import SCHEMA_VERSION, ApiEntry, ScenarioFile
from planner.files.validate import attempt
from planner.files.yamlfile import read_yaml

MOST_ALTERNATIVES = 20
_APART = "no line leads"
_SHARED = ("model", "workload", "requirements", "deployment")
"""What an alternative takes over from the scenario that names it."""
_JOIN = "network: {default: PROFILE} joins all nodes, links: joins single ones"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario with every name looked up."""

    name: str
    description: str
    path: Path
    problem: Problem
    alternatives: tuple[Scenario | Api | Offer | Unavailable, ...]
    """Other ways to serve this scenario's model and requests."""
    named: bool
    """Whether the scenario names its alternatives, if only to say that there are none."""
    finetune: FineTune | None
    """Adapters to be trained over the plan."""
    prefix_cache: PrefixCache | None
    """A cache of common beginnings."""
    run: RunSection | None
    sources: Mapping[str, Path]
    """File that each ``KIND/NAME`` came from."""
    warnings: tuple[str, ...] = ()
    seats_out: Mapping[str, str] | None = None
    """Why the coordinator may not sit at a node, where the scenario leaves its seat to planner."""


def load_scenario(
    path: Path, profiles: Sequence[Path] = (), overrides: Sequence[str] = ()
) -> Scenario:
    """The scenario at ``path``.

    ``profiles`` are folders that are searched first, ``overrides`` the ``PATH=VALUE`` of
    ``--set``. Raises InvalidFileError with everything that is wrong with the scenario and the
    cards it names, and UsageError where an override is.
    """
    document = read_yaml(path)
    if "problem_digest" in document.value:
        raise InvalidFileError(
            [
                FileProblem(
                    str(path), "is a manifest, what planner plan wrote; here a scenario is due"
                )
            ],
            "planner simulate, run, show and diff take a manifest; planner plan SCENARIO "
            f"--from {path} starts from its plan",
        )
    return scenario_from(document, path, profiles, overrides)


def scenario_from(
    document: Document, path: Path, profiles: Sequence[Path] = (), overrides: Sequence[str] = ()
) -> Scenario:
    """The scenario in a document that was read from ``path``; raises as load_scenario does."""
    named = [one for one in overrides if one.split("=")[0].strip() in PRESET_KEYS]
    override(document, named)
    expand(document, Catalogue(path.parent, profiles))
    override(document, [one for one in overrides if one not in named])
    return _Loader(tuple(profiles)).load(document, path, ())


@dataclass(slots=True)
class _Loader:
    """Loads a scenario and those it names as alternatives, each file once."""

    profiles: tuple[Path, ...]
    loaded: dict[Path, Scenario] = field(default_factory=dict)

    def load(self, document: Document, path: Path, above: tuple[Path, ...]) -> Scenario:
        """The scenario at ``path``, whose stem names it if it does not; ``above`` lead here."""
        document.value.setdefault("name", path.stem)
        cards = look_up(document, Catalogue(path.parent, self.profiles))
        fill_in_acceptance(document, cards)
        given, problems = attempt(ScenarioFile, document)
        problems += _other_version(document)
        _refuse(document, problems + cards.problems, cards.hints)
        assert given is not None
        expanded = Expanded.of(given, cards)
        problem, problems, warnings = _problem(given, document, cards, expanded)
        _refuse(document, problems)
        assert problem is not None
        found: list[Scenario | Api | Offer | Unavailable] = []
        known = Catalogue(path.parent, self.profiles)
        for index, entry in enumerate(given.alternatives or ()):
            if entry.api is not None:
                found.append(_api(entry.api, document, cards, known, index, problem.model.id))
            elif entry.rent is not None:
                found.append(rented(entry.rent, problem, known))
            elif entry.own is not None:
                found.append(owned(entry.own, problem, known))
            else:
                found.append(
                    self._other(entry.scenario or "", document, index, (*above, path), problem)
                )
        return Scenario(
            name=given.name,
            description=given.description.strip(),
            path=path,
            problem=problem,
            alternatives=tuple(found),
            named=given.alternatives is not None,
            finetune=given.finetune,
            prefix_cache=given.prefix_cache,
            run=given.run,
            sources=dict(sorted(cards.sources.items())),
            warnings=tuple(warnings),
            seats_out=expanded.seats_out,
        )

    def _other(
        self, name: str, document: Document, index: int, way: tuple[Path, ...], problem: Problem
    ) -> Scenario:
        """The scenario that an alternative names, serving the model and requests of ``problem``."""
        place: KeyPath = ("alternatives", index, "scenario")
        path = way[-1].parent / name
        resolved, passed = _existing(path), [_existing(step) for step in way]
        message = ""
        if resolved is None:
            message = f"{path} does not exist; paths start at the scenario"
        elif resolved in passed:
            names = [step.name for step in way[passed.index(resolved) :]]
            message = "cyclic: " + " -> ".join([*names, path.name])
        elif len(way) > MOST_ALTERNATIVES:
            message = f"more than {MOST_ALTERNATIVES} scenarios name each other"
        if resolved is None or message:
            raise InvalidFileError([document.problem(place, message)])
        if resolved not in self.loaded:
            other = read_yaml(path)
            expand(other, Catalogue(path.parent, self.profiles))
            self.loaded[resolved] = self.load(other, path, way)
        scenario = self.loaded[resolved]
        return replace(scenario, problem=_serving(scenario, problem, document, place))


def _existing(path: Path) -> Path | None:
    """``path`` without links and dots; None where there is nothing."""
    try:
        return path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None


def _refuse(document: Document, problems: Sequence[FileProblem], hints: Sequence[str] = ()) -> None:
    """Raises UsageError where an override is wrong, InvalidFileError for anything else."""
    arguments = set(document.overridden.values())
    mine = [problem for problem in problems if problem.file in arguments]
    hint = "\n".join(dict.fromkeys(hint for hint in hints if hint))
    if mine:
        raise UsageError("\n".join(str(problem) for problem in mine), hint)
    here = document.file
    order = sorted(problems, key=lambda one: (one.file != here, one.line or 0, one.column or 0))
    apart = any(problem.message.startswith(_APART) for problem in problems)
    refuse(order, hint or (_JOIN if apart else ""))


def _other_version(document: Document) -> list[FileProblem]:
    stated = document.value.get("schema_version", SCHEMA_VERSION)
    if str(stated).split(".")[0] == SCHEMA_VERSION.split(".")[0]:
        return []
    message = f"{stated} is no version this planner reads; it reads {SCHEMA_VERSION}"
    return [document.problem(("schema_version",), message)]


def _problem(
    given: ScenarioFile, document: Document, cards: References, expanded: Expanded
) -> tuple[Problem | None, list[FileProblem], list[str]]:
    """The problem, or what keeps the scenario from being one; and warnings."""
    links = Links(document, lambda name: cards.card("networks", name, Network))
    links.add_network(given.network, (node.region for node in expanded.nodes))
    links.add_links(given.links, expanded.ids)
    problems, warnings = check(given, document, cards, expanded)
    problems += [*links.problems, *check_draft(given, document, cards, expanded)]
    if not problems:
        problems += _unreachable(document, expanded, links)
    if problems:
        return None, problems, warnings
    try:
        made = _assemble(given, expanded, cards, links)
        return made, [], [*warnings, *draft_warnings(made)]
    except ValidationError as error:
        said = [one["msg"].removeprefix("Value error, ") for one in error.errors()]
        return None, [document.problem((), message) for message in said], warnings


def _unreachable(document: Document, expanded: Expanded, links: Links) -> list[FileProblem]:
    pairs, more = missing_pairs(expanded.nodes, expanded.seats, links.made)
    said = [f"{_APART} from {src} to {dst}" for src, dst in pairs]
    if more:
        said.append("... and more pairs without a line")
    key = next((key for key in ("links", "network") if key in document.value), "nodes")
    return [document.problem((key,), message, key=True) for message in said]


def _assemble(given: ScenarioFile, expanded: Expanded, cards: References, links: Links) -> Problem:
    return Problem(
        name=given.name,
        cluster=Cluster(
            devices=tuple(expanded.devices.values()),
            nodes=expanded.nodes,
            links=tuple(links.made.values()),
            churn=tuple(expanded.churn.values()),
            coordinator=expanded.seats[0],
            coordinators=expanded.seats if len(expanded.seats) > 1 else (),
        ),
        model=cards.card("models", given.model, ModelSpec),
        draft=cards.card("models", given.draft, ModelSpec) if given.draft else None,
        engine=cards.card("engines", given.engine, Engine),
        quants=tuple(cards.card("quants", name, QuantScheme) for name in given.quants),
        workload=given.workload,
        requirements=Requirements(
            objective=given.objective,
            must_have=given.must_have,
            nice_to_have=given.nice_to_have,
        ),
        serving=given.serving,
        deployment=given.deployment,
    )


def _api(
    entry: ApiEntry,
    document: Document,
    cards: References,
    known: Catalogue,
    index: int,
    model: str,
) -> Api:
    wanted = entry.model or model
    listed: list[str] = []
    if entry.prices.startswith(FROM_PACKAGE):
        found = api_of_package(entry.prices, wanted, known, datetime.date.today())
        if found is not None:
            return found
    else:
        prices = cards.card("prices", entry.prices, PriceList)
        for price in prices.models:
            if price.model == wanted:
                return Api(price, prices, str(cards.sources[f"prices/{entry.prices}"]))
        listed = [price.model for price in prices.models]
    message = f"{entry.prices} has no price of {wanted}{did_you_mean(wanted, listed)}"
    problem = document.problem(("alternatives", index, "api", "model"), message)
    hint = "aliases.yaml says under apis: which offers of the package are which model"
    if not entry.prices.startswith(FROM_PACKAGE):
        hint = f"it lists {', '.join(listed) or 'no API'}"
    raise InvalidFileError([problem], hint)


def _serving(scenario: Scenario, problem: Problem, document: Document, place: KeyPath) -> Problem:
    """The alternative's machines under the model and the requests of ``problem``."""
    changes = {name: getattr(problem, name) for name in _SHARED}
    mine = scenario.problem
    values = {name: getattr(mine, name) for name in Problem.model_fields} | changes
    try:
        return Problem.model_validate(values)
    except ValidationError as error:
        said = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
        raise InvalidFileError([document.problem(place, said)]) from None
