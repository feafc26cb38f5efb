"""Runs with real worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from planner.core.cluster import Link, Node
from planner.core.errors import InvalidFileError, RunError
from planner.core.metrics import summarise
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Constant, Fixed, Request, Workload
from planner.run.checkpoint import open_checkpoint
from planner.run.execute import execute
from planner.run.nursery import nursery
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup, check, refuse_unverifiable
from tests.core import world as core
from tests.run.world import chain, greedy, pipeline, plan, problem, spec

MODEL = spec()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("run") / "model", MODEL, dtype="fp32")


def workers_alive() -> list[str]:
    """States of the worker processes that this process has, once those that end have ended."""
    for _ in range(50):
        command = ["ps", "-o", "stat=", "--ppid", str(nursery().pid)]
        found = subprocess.run(command, capture_output=True, text=True).stdout.split()
        if not found:
            break
        time.sleep(0.1)
    return found


def workload(**changes: Any) -> Workload:
    values: dict[str, Any] = {
        "arrivals": Closed(kind="closed", concurrency=2),
        "prompt": Fixed(tokens=9),
        "output": Fixed(tokens=6),
        "requests": 4,
    }
    return Workload(**(values | changes))


@pytest.mark.slow
def test_processes_over_a_shaped_link_write_what_one_process_writes(folder: Path) -> None:
    slow = Link(src="w0", dst="w1", one_way_latency=0.02, bandwidth=1e6)
    fast = Link(src="*", dst="*", one_way_latency=0.0, bandwidth=1e12)
    world = problem(3, MODEL, [slow, fast])
    told: dict[int, list[int]] = {}
    spelt: dict[int, str] = {}

    def hear(request: int, token: int, text: str) -> None:
        told.setdefault(request, []).append(token)
        spelt[request] = spelt.get(request, "") + text

    chosen = plan(pipeline(["w0", "w1", "w2"], 4, max_num_seqs=2))
    setup = Setup(world, chosen, folder, threads=1)
    measured = execute(setup, world.workload.sample(0), on_token=hear)
    stages = chain(open_checkpoint(folder), [])
    assert [record.status for record in measured.records] == ["completed"] * 4
    for record in measured.records:
        assert len(measured.outputs[record.id]) == record.output_tokens == 6
        assert record.token_s == sorted(record.token_s)
    assert told == measured.outputs
    assert all(measured.texts[key].startswith(text) for key, text in spelt.items())
    assert any(spelt.values())
    prompts = measured.prompts
    assert {key: greedy(stages, prompts[key], 6) for key in prompts} == measured.outputs
    metrics = summarise(measured.records)
    assert metrics.completed == 4
    (crossing,) = [h for h in measured.hops if (h.src, h.dst) == ("w0", "w1")]
    decode = sorted(hop.seconds for hop in crossing.hops if hop.phase == "decode")
    assert decode[len(decode) // 2] == pytest.approx(0.02 + (2 * 64 * 4 + 80) / 1e6, abs=2e-3)
    assert [run.stage.node for run in measured.stages] == ["w0", "w1", "w2"]
    for run in measured.stages:
        assert [s.batch.new_tokens for s in run.steps if s.phase == "prefill"] == [9] * 4
        assert all(step.compute_s > 0 for step in run.steps)
    assert workers_alive() == []


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_one_to_four_processes_write_the_same(tmp_path: Path, family: str) -> None:
    model = spec(model_type=family, head_dim=32)
    path = make_checkpoint(tmp_path / "m", model, dtype="fp32")
    names = [f"w{index}" for index in range(10)]
    split = [names[:1], names[1:3], names[3:6], names[6:]]
    world = problem(10, model, workload=workload(arrivals=Closed(kind="closed", concurrency=4)))
    chosen = plan(*(pipeline(nodes, 4) for nodes in split))
    measured = execute(Setup(world, chosen, path, threads=1), world.workload.sample(0))
    assert [record.pipeline for record in measured.records] == [0, 1, 2, 3]
    stages = chain(open_checkpoint(path), [])
    for key, prompt in measured.prompts.items():
        assert measured.outputs[key] == greedy(stages, prompt, 6)


@pytest.mark.slow
def test_two_pipelines_share_by_weight_and_groups_overlap(folder: Path) -> None:
    arrivals = Constant(kind="constant", rate=1e6)
    world = problem(3, MODEL, workload=workload(arrivals=arrivals, requests=9))
    chosen = plan(
        pipeline(["w0"], 4, weight=1.0),
        pipeline(["w1", "w2"], 4, weight=2.0, max_num_seqs=4, micro_batches=2),
    )
    measured = execute(Setup(world, chosen, folder, threads=1), world.workload.sample(0))
    assert [record.pipeline for record in measured.records].count(1) == 6
    stages = chain(open_checkpoint(folder), [])
    for key, prompt in measured.prompts.items():
        assert measured.outputs[key] == greedy(stages, prompt, 6)
    assert [record.arrival_s for record in measured.records] == pytest.approx(
        [index / 1e6 for index in range(9)]
    )


@pytest.mark.slow
def test_text_in_text_out_and_what_does_not_fit_fails_with_a_reason(folder: Path) -> None:
    world = problem(1, MODEL)
    requests = [Request(index, 0.0, 1, 4) for index in range(3)]
    texts = ["hello", "far too long " * 20, "bye"]
    chosen = plan(pipeline(["w0"], 4))
    first, again = (
        execute(
            Setup(world, chosen, folder, seed=seed, threads=1),
            requests,
            texts=texts,
            temperature=1.0,
        )
        for seed in (1, 1)
    )
    assert [r.status for r in first.records] == ["completed", "failed", "completed"]
    assert "do not fit" in first.records[1].reason
    assert first.records[0].prompt_tokens == 5
    assert first.texts == again.texts
    assert set(first.texts) == {0, 2}


@pytest.mark.slow
def test_interrupting_leaves_no_process_behind(folder: Path) -> None:
    world = problem(2, MODEL, workload=workload(output=Fixed(tokens=400), requests=50))
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    started: list[bool] = []

    def begin(_request: int, _token: int, _text: str) -> None:
        if not started:
            started.append(True)
            interrupt.start()

    setup = Setup(world, plan(pipeline(["w0", "w1"], 4)), folder, threads=1)
    with pytest.raises(KeyboardInterrupt):
        execute(setup, world.workload.sample(0), on_token=begin)
    assert workers_alive() == []


@pytest.mark.slow
def test_a_worker_reports_a_checkpoint_that_broke_after_the_check(tmp_path: Path) -> None:
    from planner.run.fleet import Fleet
    from planner.run.settings import Settings

    broken = make_checkpoint(tmp_path / "m", MODEL)
    (broken / "model.safetensors").unlink()
    world = problem(1, MODEL)
    settings = Settings(checkpoint=broken, slot_tokens=16, threads=1)
    fleet = Fleet(world.cluster, plan(pipeline(["w0"], 4)), settings)
    with pytest.raises(InvalidFileError, match="safetensors"), fleet:
        pass
    assert workers_alive() == []


def test_a_bad_checkpoint_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "m", MODEL)
    (path / "tokenizer.json").unlink()
    world = problem(1, MODEL)
    with pytest.raises(InvalidFileError):
        execute(Setup(world, plan(pipeline(["w0"], 4)), path), world.workload.sample(0))


@pytest.mark.parametrize(
    ("planned", "quant", "node", "said"),
    [
        ({"hidden_size": 128}, "fp32", {}, "hidden_size is 64, not 128"),
        ({}, "int4", {}, "does not compute in int4"),
        ({}, "fp32", {"count": 2}, "several devices"),
    ],
)
def test_what_the_runtime_cannot_execute_is_refused(
    folder: Path, planned: dict[str, Any], quant: str, node: dict[str, Any], said: str
) -> None:
    nodes = (Node(id="home"), Node(id="w0", device="chip", **node))
    world = core.problem(nodes=nodes, model=spec(**planned), quants=(core.quant(quant),))
    with pytest.raises(RunError, match=said):
        check(world, plan(pipeline(["w0"], 4, quant)), open_checkpoint(folder).config)


def test_what_receipts_cannot_tell_is_refused() -> None:
    plain = problem(2, MODEL, [])
    refuse_unverifiable(plain, compiled=False)
    with pytest.raises(RunError, match="compiled steps cannot be verified"):
        refuse_unverifiable(plain, compiled=True)
    said = Speculation(draft_tokens=2, acceptance=0.5, draft_token_s=1e-3)
    drafting = plain.serving.model_copy(update={"speculation": said})
    with pytest.raises(RunError, match="drafts cannot be verified"):
        refuse_unverifiable(core.problem(serving=drafting), compiled=False)


def test_the_driver_side_imports_no_torch() -> None:
    script = "import sys, planner.run.execute; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
