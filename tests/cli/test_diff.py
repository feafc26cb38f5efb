from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.plan import Plan
from planner.files.manifest import Manifest, write_manifest
from tests.cli.world import Terminal
from tests.files.world import manifest


def _swapped(one: Manifest) -> Manifest:
    """The same plan with its nodes in the other order, and half the speed."""
    pipeline = one.plan.pipelines[0]
    nodes = [stage.node for stage in pipeline.stages][::-1]
    stages = tuple(
        stage.model_copy(update={"node": node})
        for stage, node in zip(pipeline.stages, nodes, strict=True)
    )
    plan = Plan(pipelines=(pipeline.model_copy(update={"stages": stages}),))
    prediction = one.prediction.model_copy(
        update={"metrics": one.prediction.metrics.model_copy(update={"mean_tpot_ms": 30.0})}
    )
    return one.model_copy(update={"plan": plan, "prediction": prediction})


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    one = manifest()
    one = one.model_copy(
        update={
            "prediction": one.prediction.model_copy(
                update={"metrics": one.prediction.metrics.model_copy(update={"mean_tpot_ms": 20.0})}
            )
        }
    )
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    write_manifest(before, one)
    write_manifest(after, _swapped(one))
    return before, after


def test_moves_and_figures_are_told(planner: Terminal, paths: tuple[Path, Path]) -> None:
    done = planner("diff", *paths)
    assert done.code == 0
    first = done.stdout.splitlines()[0]
    assert first == "2 nodes hold something else; mean time per output token +50.0%."
    assert "Moved" in done.stdout
    assert "mean_tpot_ms" in done.stdout
    assert "+50.0%" in done.stdout
    assert "Problem" not in done.stdout


def test_json_lists_the_same(planner: Terminal, paths: tuple[Path, Path]) -> None:
    values = planner("diff", *paths, "--format", "json").document
    assert (values["empty"], len(values["moved"]), values["problem"]) == (False, 2, [])
    tpot = next(one for one in values["metrics"] if one["name"] == "mean_tpot_ms")
    assert (tpot["before"], tpot["after"]) == (20.0, 30.0)


def test_equal_manifests_leave_stdout_empty(planner: Terminal, paths: tuple[Path, Path]) -> None:
    done = planner("diff", paths[0], paths[0])
    assert (done.code, done.stdout) == (0, "")
    assert planner("diff", paths[0], paths[0], "--format", "json").document["empty"] is True


def test_a_file_that_is_no_manifest_is_invalid(planner: Terminal, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    assert planner("diff", tmp_path / "a.yaml", tmp_path / "a.yaml").code == 3
