"""Compiled rows compute what the layers do, and are left out where they cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.run import contest, kiln, programs
from planner.run.checkpoint import Checkpoint
from planner.run.contest import settled
from planner.run.linear import Kernels
from planner.run.model import CacheShape, Stage
from planner.run.programs import NAMES, Form
from tests.run.world import checkpoint

COMPILED = Kernels(compiled=True)
QWEN2: dict[str, Any] = {"model_type": "qwen2"}
QWEN3: dict[str, Any] = {"model_type": "qwen3", "head_dim": 32}


def eager(form: Form, names: tuple[str, ...]) -> dict[str, kiln.Program]:
    """Programs as plain torch operations, which compiled ones have to equal."""

    def program(name: str) -> kiln.Program:
        slots = [one is not None for one in form.examples(name)]

        def run(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
            given = iter(inputs)
            return list(form.program(name)(*(next(given) if held else None for held in slots)))

        return run

    return {name: program(name) for name in names}


def steps(stage: Stage) -> torch.Tensor:
    """Outputs of three single rows after a prompt of five tokens and a neighbour's of seven."""
    stage.prefill(torch.arange(7), 1)
    stage.prefill(torch.arange(5), 0)
    rows = [stage.decode(torch.tensor([9 + step]), [0], [5 + step]) for step in range(3)]
    return torch.cat(rows).float()


def stage(of: Checkpoint, quant: str, kernels: Kernels) -> Stage:
    return Stage(of, 0, of.config.layers, quant, CacheShape(2, 16), kernels=kernels)


@pytest.mark.parametrize("quant", ["bf16", "int8"])
@pytest.mark.parametrize("changes", [{}, QWEN2, QWEN3, {"tie_word_embeddings": True}])
def test_programs_compute_what_the_layers_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quant: str, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("planner.run.row.bake", eager)
    of = checkpoint(tmp_path, dtype="bf16", **changes)
    made = stage(of, quant, COMPILED)
    assert made.row is not None
    exact = steps(stage(of, "fp32", Kernels()))
    error = (steps(made) - exact).norm() / exact.norm()
    plain = (steps(stage(of, quant, Kernels())) - exact).norm() / exact.norm()
    assert error < max(1.3 * plain, 0.01)


def test_wrong_rows_never_reach_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.run.row.bake", eager)
    of = checkpoint(tmp_path, dtype="bf16")
    last = Stage(of, 1, of.config.layers, "bf16", CacheShape(2, 16), kernels=COMPILED)
    wide = torch.zeros(1, of.config.hidden_size + 1, dtype=torch.bfloat16)
    for x, slot, at in ((wide, 0, 0), (wide[:, 1:], 2, 0), (wide[:, 1:], 0, 16)):
        with pytest.raises(ValueError, match="no row of this model"):
            last.decode(x, [slot], [at])


def test_experts_and_packed_weights_have_no_programs(tmp_path: Path) -> None:
    moe: dict[str, Any] = {"model_type": "qwen3_moe", "num_experts": 4, "head_dim": 16}
    moe |= {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
    assert stage(checkpoint(tmp_path, dtype="bf16", **moe), "bf16", COMPILED).row is None
    of = checkpoint(tmp_path / "dense", dtype="bf16")
    assert stage(of, "bf16", Kernels(packed=True, compiled=True)).row is None


def test_without_a_compiler_a_stage_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kiln, "_compiler", lambda: None)
    of = checkpoint(tmp_path, dtype="bf16")
    kernels = Kernels(int8=("cast",) * 5)
    assert settled(lambda chosen: stage(of, "bf16", chosen), kernels).kernels == kernels


def test_programs_that_compute_something_else_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(form: Form, names: tuple[str, ...]) -> dict[str, kiln.Program]:
        made = eager(form, names)
        return made | {"after": lambda inputs: [2 * made["after"](inputs)[0]]}

    monkeypatch.setattr("planner.run.row.bake", wrong)
    assert stage(checkpoint(tmp_path, dtype="bf16"), "bf16", COMPILED).row is None


@pytest.mark.parametrize(("gain", "kept"), [(2.0, True), (1.01, False), (0.5, False)])
def test_the_faster_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, kept: bool
) -> None:
    monkeypatch.setattr("planner.run.row.bake", eager)
    monkeypatch.setattr(contest, "_row_s", lambda one: 1.0 if one.row is None else 1.0 / gain)
    of = checkpoint(tmp_path, dtype="bf16")
    made = settled(lambda chosen: stage(of, "bf16", chosen), Kernels())
    assert made.kernels.compiled == kept
    assert (made.row is not None) == kept


def test_packed_weights_of_several_seats_stay(tmp_path: Path) -> None:
    of = checkpoint(tmp_path, dtype="bf16")
    packed = Kernels(packed=True)
    assert settled(lambda chosen: stage(of, "bf16", chosen), packed).kernels == packed


def test_a_cache_that_others_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "planner" / "programs"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setattr(kiln, "_compiled", lambda *_: pytest.fail("compiled into it"))
    form = Form(64, 4, 2, 16, 128, 300, 1e-6, False, False, False, False, False, 1)
    assert kiln.bake(form, NAMES) is None


def test_another_text_of_programs_is_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Form(64, 4, 2, 16, 128, 300, 1e-6, False, False, False, False, False, 1)
    before = kiln._digest(form, "end")
    assert before != kiln._digest(form, "after")
    other = tmp_path / "programs.py"
    other.write_text(Path(programs.__file__).read_text() + "\n")
    monkeypatch.setattr(programs, "__file__", str(other))
    assert before != kiln._digest(form, "end")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_what_is_compiled_equals_the_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One real program, its cache, and what it makes of the same inputs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    form = Form(64, 4, 2, 16, 128, 300, 1e-6, True, True, False, False, True, 1)
    baked = kiln.bake(form, ("before",))
    assert baked is not None
    generator = torch.Generator().manual_seed(1)
    inputs = [
        (torch.randn(one.shape, generator=generator) * 20).to(one.dtype)
        for one in form.examples("before")
        if one is not None
    ]
    with torch.inference_mode():
        expected = eager(form, ("before",))["before"](inputs)
        for part, exact in zip(baked["before"](inputs), expected, strict=True):
            assert torch.allclose(part.float(), exact.float(), rtol=0.02, atol=0.5)
    monkeypatch.setattr(kiln, "_compiled", lambda *_: pytest.fail("compiled again"))
    assert kiln.bake(form, ("before",)) is not None
