"""Churn of scenarios: maintenance, notice and duds, from the outside."""

from __future__ import annotations

from tests.cli.scene import Scene
from tests.files.world import AS_OF

CARD = """\
distribution: planned
maintenance:
  - {start: 1 ms, length: 1 ms, every: 5 ms}
notice: 0.5 ms
dud: 80 %
dud_after: 100 us
"""


def scenario(scene: Scene, card: str = CARD) -> object:
    """The tiny scenario, its only node that can hold layers leaving for maintenance."""
    path = scene.scenario("must_have: {}\n")
    (scene.folder / "profiles" / "churn" / "serviced.yaml").write_text(
        f"{card}source: made up\nas_of: {AS_OF}\n"
    )
    path.write_text(path.read_text().replace("region: eu", "region: eu\n    churn: serviced"))
    return path


def test_maintenance_and_duds_are_simulated_and_told(scene: Scene) -> None:
    path = scenario(scene)
    sets = ("--set", "serving.detect=10 us", "--requests", 1000, "--no-alternatives")
    said = scene.planner("simulate", path, *sets, "--check", "--format", "json")
    assert said.code == 0, said.stderr
    (target,) = said.document["targets"]
    events = target["events"]
    assert events["notices"] >= events["failures"] > 0
    assert events["duds"] > 0
    assert target["metrics"]["completed"] == 1000
    text = scene.planner("simulate", path, *sets).stdout
    assert "notices" in text
    assert "duds" in text
    shown = " ".join(scene.planner("show", path).stdout.split())
    assert "80% of new rentals are duds" in shown


def test_what_is_wrong_with_a_profile_names_its_line(scene: Scene) -> None:
    path = scenario(scene, CARD.replace("every: 5 ms", "every: 1 ms"))
    said = scene.planner("simulate", path)
    assert said.code == 3
    assert "serviced.yaml:3" in said.stderr
    assert "every must be longer than length" in said.stderr
