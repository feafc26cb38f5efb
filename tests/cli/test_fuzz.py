from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.scene import Scene
from tests.fuzzing import Target, edited, hammer, targets

EXAMPLES = 1_000
MOST_GROWTH_BYTES = 8 * 2**20


def small_manifest(scene: Scene) -> str:
    return scene.manifest().read_text()


@pytest.mark.alone
@pytest.mark.slow
def test_mutated_input_is_refused_without_harm(scene: Scene, tmp_path: Path) -> None:
    for target in targets(tmp_path, small_manifest(scene)):
        if target.name == "manifests":
            continue
        target.read(target.bases[0])
        outcome = hammer(target, int(EXAMPLES * target.share), start=7)
        assert outcome.examples >= EXAMPLES * target.share * 0.9, target.name
        assert outcome.refused > outcome.examples / 4, target.name
        assert outcome.grown_bytes < MOST_GROWTH_BYTES, target.name


@pytest.mark.alone
@pytest.mark.slow
def test_mutated_manifests_are_refused_without_harm(scene: Scene, tmp_path: Path) -> None:
    (target,) = [one for one in targets(tmp_path, small_manifest(scene)) if one.name == "manifests"]
    target.read(target.bases[0])
    outcome = hammer(target, 400, start=7)
    assert outcome.refused > 100
    assert outcome.grown_bytes < MOST_GROWTH_BYTES


def test_a_reader_that_raises_something_else_is_found() -> None:
    def read(data: bytes) -> object:
        return data.decode()

    with pytest.raises(UnicodeDecodeError):
        hammer(Target("text", [b"abc" * 10], read, (KeyError,)), 500, start=1)


def test_edits_are_the_same_every_time() -> None:
    edits = [("integer", 0.5, 6, b""), ("word", 0.1, 2, b"NaN"), ("cut", 0.9, 3, b"")]
    assert edited(b"0123456789", edits) == edited(b"0123456789", edits)
    assert edited(b"0123456789", [("end", 0.3, 0, b"")]) == b"012"
