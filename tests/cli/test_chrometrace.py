"""``--chrome-trace``: a run and its simulation, both as a viewer takes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.scene import Scene
from tests.cli.test_run import two_stages
from tests.report.test_trace import check


def layout(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Processes and threads by name, those beside each other taken together."""
    events = document["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = [e for e in events if e["name"] == "thread_name"]
    return {(names[e["pid"]], e["args"]["name"].split(" (")[0]) for e in threads}


@pytest.mark.slow
def test_a_run_and_its_simulation_have_the_same_layout(scene: Scene) -> None:
    manifest, found = two_stages(scene), []
    for command in ("simulate", "run"):
        path = scene.folder / f"{command}.json"
        said = scene.planner(command, manifest, "--chrome-trace", path)
        assert said.code == 0, said.stderr
        assert "ui.perfetto.dev" in said.stderr
        document = json.loads(path.read_text())
        check(document)
        found.append(document)
    simulated, measured = found
    assert layout(simulated) == layout(measured)
    kinds = [{event["ph"] for event in one["traceEvents"]} for one in found]
    assert kinds[0] == kinds[1] == set("MXbestfC")


@pytest.mark.slow
def test_a_run_that_lost_a_node_shows_it(scene: Scene) -> None:
    path, page = scene.folder / "run.json", scene.folder / "run.html"
    files = ("--chrome-trace", path, "--html", page)
    lose = ("--lose", "b@20ms+200ms", "--requests", 40)
    said = scene.planner("run", two_stages(scene), *files, *lose)
    assert said.code == 0, said.stderr
    document = json.loads(path.read_text())
    check(document)
    told = [event["name"] for event in document["traceEvents"] if event["ph"] == "i"]
    assert {"lost", "loss of b noticed", "works again"} <= set(told)
    assert "Measured: 1 loss was recovered" in page.read_text()


@pytest.mark.slow
def test_a_simulation_with_losses_shows_them(scene: Scene) -> None:
    cards = scene.folder / "profiles" / "churn"
    scenario = scene.scenario("serving: {detect: 50 ms}\n")
    (cards / "blinks.yaml").write_text(
        "distribution: recorded\nrecorded: [true, true, false, true]\nstep: 250 ms\n"
        "source: made up\nas_of: 2026-01-01\n"
    )
    text = scenario.read_text().replace("price: 0.40 USD/h", "price: 0.40 USD/h\n    churn: blinks")
    scenario.write_text(text.replace("tokens: 10}", "tokens: 300}"))
    path = scene.folder / "trace.json"
    sets = ["workload.requests=6", "nodes.a.memory=600 kB", "nodes.b.memory=600 kB"]
    said = scene.planner(
        "simulate", scenario, "--chrome-trace", path, *(f"--set={one}" for one in sets)
    )
    assert said.code == 0, said.stderr
    document = json.loads(path.read_text())
    check(document)
    told = [event["name"] for event in document["traceEvents"] if event["ph"] == "i"]
    assert "lost" in told
    assert "works again" in told
