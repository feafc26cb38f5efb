"""``planner show``: an input or a manifest with every name resolved, or one profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption, SetOption

if TYPE_CHECKING:
    from planner.files.alternatives import Api
    from planner.files.catalogue import Catalogue
    from planner.files.offers import Offer, Unavailable
    from planner.files.scenario import Scenario

_KINDS: Mapping[str, str] = {
    "device": "devices",
    "engine": "engines",
    "model": "models",
    "quant": "quants",
    "network": "networks",
    "churn": "churn",
    "price": "prices",
    "workload": "workloads",
}


def show(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET|KIND|NAME",
            help="Scenario, manifest or profile; or a kind of profile: " + ", ".join(_KINDS) + ".",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Profile of that kind; all are listed without it."),
    ] = None,
    overrides: SetOption = None,
    profiles: ProfilesOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Show a scenario, a manifest or a profile, resolved.

    Every name is looked up, and the file that won is named. `price` takes the name of a list, a
    device or a model, or LIST/NAME, and tells value, day and source of every price.

    Examples: `planner show scenario.yaml`, `planner show rtx-4090`, `planner show models`,
    `planner show price rtx-4090`.
    """
    from planner.core.errors import UsageError

    kind = _kind(target)
    if name is not None and kind is None:
        from planner.files.keys import did_you_mean

        message = f"there is no kind of profile {target!r}{did_you_mean(target, _KINDS)}"
        raise UsageError(message, f"kinds: {', '.join(_KINDS)}")
    if kind is None and not Path(target).exists():
        kind, name = _kind_of(target, profiles), target
    if kind is not None and (name is not None or not Path(target).exists()):
        if overrides:
            raise UsageError("--set changes a scenario or a manifest, not a profile")
        _show_profiles(kind, name, profiles, format)
        return
    _show_target(Path(target), profiles or [], overrides or [], format)


def _kind(word: str) -> str | None:
    """The folder of profiles that a word names in the singular or the plural."""
    plain = word.casefold()
    return next((kind for one, kind in _KINDS.items() if plain in (one, kind)), None)


def _near(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _kind_of(name: str, profiles: list[Path] | None) -> str | None:
    """The kind of the only profile a name means; None where it is a path.

    Raises UsageError where no profile or several have that name.
    """
    from planner.cli.cards import catalogue
    from planner.core.errors import UsageError
    from planner.files.bundled import bundled
    from planner.files.catalogue import CARDS, is_path
    from planner.files.keys import nearest
    from planner.files.names import resolve

    if is_path(name):
        return None
    known = catalogue(profiles)
    kinds = [kind for kind in CARDS if resolve(known, kind, name) is not None]
    if not kinds:
        meant = {path.stem: _near(path) for path in bundled("scenarios").glob("*.yaml")}
        meant |= {one: one for kind in CARDS for one in known.names(kind)}
        near = nearest(name, meant)
        raise UsageError(
            f"there is no file and no profile {name!r}"
            + (f"; did you mean {meant[near]}?" if near else ""),
            "name a file, a profile, or a kind of profile: " + ", ".join(_KINDS),
        )
    if len(kinds) > 1:
        words = [word for word, kind in _KINDS.items() if kind in kinds]
        raise UsageError(
            f"{name} is a {' and a '.join(words)}", f"say which: planner show {words[0]} {name}"
        )
    return kinds[0]


def _show_profiles(
    kind: str, name: str | None, profiles: list[Path] | None, format: Format
) -> None:
    from planner.cli.cards import card, catalogue
    from planner.core.spec import Card
    from planner.files.catalogue import CARDS
    from planner.files.readable import readable
    from planner.files.yamltext import to_yaml

    known = catalogue(profiles)
    folder = next(one for one in CARDS if one == kind)
    if name is None:
        names = known.names(folder)
        if format is Format.json:
            console.emit_json({"kind": kind, "names": names})
        else:
            console.emit_raw("".join(f"{one}\n" for one in names))
        return
    if folder == "prices":
        _show_prices(known, name, format)
        return
    found = card(known, folder, name, Card)
    file = known.get(folder, name)[1] if known.find(folder, name) else Path(name)
    values = readable(found, brief=True)
    if format is Format.json:
        console.emit_json({"kind": kind, "file": str(file), "profile": values})
    else:
        console.emit_raw(f"# {file}\n{to_yaml(values)}")


def _show_prices(known: Catalogue, name: str, format: Format) -> None:
    """Every price that a name means, traced to its source; raises UsageError without any."""
    import dataclasses
    import datetime

    from planner.core.errors import UsageError
    from planner.files.keys import did_you_mean
    from planner.files.quotes import quotes
    from planner.report.prices import quotes_text

    today = datetime.date.today()
    found = quotes(known, name, today)
    if not found:
        lists = known.names("prices")
        raise UsageError(
            f"no price list has a price of {name!r}{did_you_mean(name, lists)}",
            f"name a device, a model, LIST/NAME, or a list: {', '.join(lists)}",
        )
    if format is Format.json:
        console.emit_json({"kind": "prices", "prices": [dataclasses.asdict(one) for one in found]})
    else:
        console.emit(*quotes_text(found, today))


def _show_target(path: Path, profiles: list[Path], overrides: list[str], format: Format) -> None:
    from planner.files.manifest import Manifest
    from planner.files.shown import pair_links, shown
    from planner.files.target import load_target
    from planner.report.show import ShowReport

    target = load_target(path, profiles, overrides)
    if format is Format.json:
        console.emit_json(shown(target))
        return
    problem = target.problem
    if isinstance(target, Manifest):
        report = ShowReport(
            problem, pair_links(problem), plan=target.plan, prediction=target.prediction
        )
    else:
        report = ShowReport(
            problem,
            pair_links(problem),
            description=target.description,
            alternatives=tuple(_alternative(one) for one in target.alternatives),
            sources={key: str(file) for key, file in target.sources.items()},
        )
    console.emit(*report.text())
    for warning in target.warnings:
        console.warn(warning)


def _alternative(one: Scenario | Api | Offer | Unavailable) -> str:
    """An alternative in a line."""
    from planner.files.alternatives import Api
    from planner.files.offers import Unavailable
    from planner.files.scenario import Scenario

    if isinstance(one, Scenario):
        return f"{one.name} ({one.path})"
    if isinstance(one, Unavailable):
        return f"{one.name}: {one.reason}"
    if isinstance(one, Api):
        return f"{one.name} (per token)"
    return f"{one.name} ({', '.join(node.id for node in one.problem.cluster.workers)})"
