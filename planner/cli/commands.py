"""The subcommands of planner; each module is imported when its command is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

NAMES = (
    "init",
    "probe",
    "estimate",
    "calibrate",
    "plan",
    "simulate",
    "run",
    "show",
    "export",
    "diff",
    "validate",
    "doctor",
    "node",
    "prices",
    "verify",
)
"""In the order of the help."""


def _module(name: str) -> Any:
    """The module of a command; it has a function of that name, or an ``app`` with subcommands."""
    match name:
        case "init":
            import planner.cli.init
        case "probe":
            import planner.cli.probe
        case "estimate":
            import planner.cli.estimate
        case "calibrate":
            import planner.cli.calibrate
        case "plan":
            import planner.cli.plan
        case "simulate":
            import planner.cli.simulate
        case "run":
            import planner.cli.run
        case "show":
            import planner.cli.show
        case "export":
            import planner.cli.export
        case "diff":
            import planner.cli.diff
        case "validate":
            import planner.cli.validate
        case "doctor":
            import planner.cli.doctor
        case "node":
            import planner.cli.node
        case "prices":
            import planner.cli.prices
        case "verify":
            import planner.cli.verify
        case _:
            raise KeyError(name)
    return getattr(planner.cli, name)


class Commands(TyperGroup):
    """A group that knows its commands by name until one of them is wanted."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Loaded()  # type: ignore[assignment]


class _Loaded(Mapping[str, Any]):
    """The commands by name."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = _command(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


def _command(name: str) -> Any:
    module, alone = _module(name), typer.Typer(rich_markup_mode=None)
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
    else:
        alone.command(name)(getattr(module, name))
    return get_group(alone).commands[name]
