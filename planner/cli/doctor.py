"""``planner doctor``: what works on this machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import planner
from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption
from planner.run.settings import PACKAGES

if TYPE_CHECKING:
    from planner.files.catalogue import Catalogue
    from planner.report.doctor import Finding, State

_NEEDED = ("numpy", "pydantic", "pyyaml", "rich", "scipy", "simpy", "typer")
_EXTRAS = (
    ("plotly", "--html needs it", "html"),
    ("pyarrow", "--records and --visits as Parquet need it", "parquet"),
    ("ray", "--engine ray needs it", "ray"),
    ("cryptography", "planner node and verify need it", "verify"),
)
"""Package, what needs it, and the extra that brings it."""
_OLD_DAYS = 180


def doctor(profiles: ProfilesOption = None, format: FormatOption = Format.text) -> None:
    """Say what works on this machine.

    And what to do about what does not. Exit code 7 if something is missing that plan and
    simulate need.

    Example: `planner doctor`
    """
    from planner.core.errors import RunError
    from planner.report.doctor import document, text

    findings = [*_software(), *_machine(), *_profiles(profiles or [])]
    if format is Format.json:
        console.emit_json(document(findings))
    else:
        console.emit(text(findings))
    broken = [one.name for one in findings if one.state == "broken"]
    if broken:
        raise RunError(f"planner cannot work here: {', '.join(broken)}")


def _software() -> list[Finding]:
    from planner.report.doctor import Finding

    found = [
        Finding("planner", "ok", planner.__version__),
        Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
    ]
    found += [_package(name, "broken", f"pip install {name}") for name in _NEEDED]
    hint = "planner run and probe need it: pip install 'planner[run]'"
    found += [_package(name, "missing", hint) for name in PACKAGES]
    return found + [
        _package(name, "missing", f"{needs}: pip install 'planner[{extra}]'")
        for name, needs, extra in _EXTRAS
    ]


def _package(name: str, otherwise: State, hint: str) -> Finding:
    """Whether a package is installed, without the seconds that importing it takes."""
    from planner.report.doctor import Finding

    try:
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, otherwise, "not installed", hint)


def _machine() -> list[Finding]:
    from planner.core.units import show
    from planner.report.doctor import Finding

    usable, whole = len(os.sched_getaffinity(0)), os.cpu_count()
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    memory_bytes = page_bytes * os.sysconf("SC_PHYS_PAGES")
    free_bytes = page_bytes * os.sysconf("SC_AVPHYS_PAGES")
    told = f"{show(memory_bytes, 'bytes')}, {show(free_bytes, 'bytes')} free"
    return [
        Finding("cores", "ok", f"{usable} usable of {whole}"),
        Finding("memory", "ok", told),
        _ports(),
    ]


def _ports() -> Finding:
    """Whether local workers can listen for each other, as ``planner run`` has them do."""
    import socket

    from planner.report.doctor import Finding

    try:
        with socket.create_server(("127.0.0.1", 0)):
            return Finding("ports", "ok", "local workers can listen on 127.0.0.1")
    except OSError as error:
        hint = "planner run needs it: allow listening on 127.0.0.1"
        return Finding("ports", "missing", error.strerror or str(error), hint)


def _profiles(profiles: list[Path]) -> list[Finding]:
    from planner.files.bundled import bundled
    from planner.files.catalogue import CARDS, Catalogue
    from planner.report.doctor import Finding

    known = Catalogue(Path(), tuple(profiles))
    found = []
    for folder in known.folders:
        cards = sum(1 for kind in CARDS for _ in folder.glob(f"{kind}/*.yaml"))
        state: State = "ok" if folder.is_dir() else "missing"
        if not cards and folder == bundled("profiles"):
            state = "broken"
        found.append(Finding("profiles", state, f"{folder}, {cards} profiles"))
    return [*found, *_this_host(known)]


def _this_host(known: Catalogue) -> list[Finding]:
    import datetime

    from planner.core.errors import PlannerError
    from planner.files.catalogue import THIS_HOST
    from planner.report.doctor import Finding

    hint = "measure this machine: planner probe"
    if known.find("devices", THIS_HOST) is None or known.find("engines", THIS_HOST) is None:
        return [Finding(THIS_HOST, "missing", "not probed yet", hint)]
    try:
        card, path = known.get("devices", THIS_HOST)
        known.get("engines", THIS_HOST)
    except PlannerError as error:
        return [Finding(THIS_HOST, "missing", error.message, hint)]
    days = (datetime.datetime.now(tz=datetime.UTC).date() - card.as_of).days
    told = f"probed {days} days ago, {path}"
    if days > _OLD_DAYS:
        return [Finding(THIS_HOST, "old", told, hint)]
    return [Finding(THIS_HOST, "ok", told)]
