from __future__ import annotations

from pathlib import Path

import pytest
import torch

from planner.core.workload import Closed, Fixed, Workload
from planner.run.checkpoint import open_checkpoint
from planner.run.execute import execute
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup
from planner.run.wire import narrow, widen
from tests.core import world as core
from tests.run.world import chain, greedy, pipeline, plan, problem, spec


@pytest.mark.parametrize("columns", [64, 128, 200, 4096])
def test_a_group_keeps_its_precision_beside_an_outlier(columns: int) -> None:
    y = torch.randn(5, columns, generator=torch.Generator().manual_seed(0))
    y[:, 0] = 60.0
    data = narrow(y)
    assert data.shape == (5, columns + 2 * -(-columns // 128))
    back = widen(data, columns, torch.float32)
    error = (back - y).abs()
    assert error[:, :128].max() <= 60 / 127 / 2 * 1.01
    if columns > 128:
        assert error[:, 128:].norm() < 0.015 * y[:, 128:].norm()


def test_rows_can_be_cut_and_joined_and_zeros_stay_zeros() -> None:
    y = torch.randn(6, 300, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    y[2] = 0
    whole, parts = narrow(y), torch.cat([narrow(y[:2]), narrow(y[2:])])
    assert torch.equal(whole, parts)
    assert widen(whole, 300, torch.bfloat16)[2].count_nonzero() == 0


@pytest.mark.slow
def test_prompts_in_chunks_write_what_whole_prompts_write(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", spec(), dtype="fp32")
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=2),
        prompt=Fixed(tokens=21),
        output=Fixed(tokens=6),
        requests=4,
    )
    engine = core.engine(prefill_chunk=8)
    world = problem(2, spec(), workload=workload, engine=engine)
    setup = Setup(world, plan(pipeline(["w0", "w1"], 4)), folder, threads=1)
    run = execute(setup, world.workload.sample(0))
    stages = chain(open_checkpoint(folder), [])
    for key, prompt in run.prompts.items():
        assert run.outputs[key] == greedy(stages, prompt, 6)
    sizes = [step.new_tokens for step in run.stages[0].steps if step.phase == "prefill"]
    assert sorted(sizes) == [5] * 4 + [8] * 8


@pytest.mark.slow
def test_the_manifest_chooses_int8_on_the_wire(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", spec(), dtype="fp32")
    quant = core.quant("fp32", wire_bits=8.125)
    world = problem(2, spec(), quants=(quant,))
    setup = Setup(world, plan(pipeline(["w0", "w1"], 4)), folder, threads=1)
    run = execute(setup, world.workload.sample(0))
    assert [record.status for record in run.records] == ["completed"] * 4
    stages = chain(open_checkpoint(folder), [])
    same = sum(
        mine == exact
        for key, prompt in run.prompts.items()
        for mine, exact in zip(run.outputs[key], greedy(stages, prompt, 6), strict=True)
    )
    assert same >= 12, "int8 on the wire changes few tokens"
