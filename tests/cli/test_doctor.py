from __future__ import annotations

import datetime
import socket
from importlib import metadata
from pathlib import Path

import pytest

from tests.cli.world import Terminal


def _findings(done: dict[str, object]) -> dict[str, dict[str, str]]:
    found = done["findings"]
    assert isinstance(found, list)
    return {one["name"]: one for one in found}


def test_it_says_what_is_there_and_what_to_do_about_the_rest(planner: Terminal) -> None:
    done = planner("doctor", "--format", "json")
    found = _findings(done.document)
    assert (done.code, done.document["ok"]) == (0, True)
    assert found["python"]["state"] == found["typer"]["state"] == found["cores"]["state"] == "ok"
    assert found["this-host"]["state"] == "missing"
    assert "planner probe" in found["this-host"]["hint"]
    assert "planner probe" in planner("doctor").stdout


def test_ports_that_cannot_be_opened_are_told_and_end_nothing(
    planner: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _findings(planner("doctor", "--format", "json").document)["ports"]["state"] == "ok"

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(1, "not permitted here")

    monkeypatch.setattr(socket, "create_server", refuse)
    done = planner("doctor", "--format", "json")
    found = _findings(done.document)["ports"]
    assert (done.code, found["state"], found["detail"]) == (0, "missing", "not permitted here")


def test_an_old_probe_is_told(planner: Terminal, profiles: Path) -> None:
    for kind, name in (("devices", "chip"), ("engines", "soft")):
        text = (profiles / kind / f"{name}.yaml").read_text()
        (profiles / kind / "this-host.yaml").write_text(text)
    found = _findings(planner("doctor", "--format", "json", "--profiles", profiles).document)
    assert found["this-host"]["state"] == "old"
    today = datetime.datetime.now(tz=datetime.UTC).date()
    file = profiles / "devices/this-host.yaml"
    file.write_text(file.read_text().replace("as_of: 2026-01-01", f"as_of: {today}"))
    found = _findings(planner("doctor", "--format", "json", "--profiles", profiles).document)
    assert found["this-host"]["state"] == "ok"


def test_a_missing_package_ends_with_7_and_missing_torch_does_not(
    planner: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"torch"}
    real = metadata.version

    def version(name: str) -> str:
        if name in absent:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    done = planner("doctor", "--format", "json")
    assert (done.code, done.document["can_run"]) == (0, False)
    absent.add("simpy")
    done = planner("doctor")
    assert done.code == 7
    assert "error: planner cannot work here: simpy" in done.stderr
