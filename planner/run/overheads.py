"""Overheads: what a run costs on this host besides computing, from a real run of a tiny model."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planner.core.cluster import Cluster, Link, Node
from planner.core.cost.batch import Batch
from planner.core.cost.loading import MeasuredLoad, weights_bytes
from planner.core.cost.measured import MeasuredStep
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency, Engine
from planner.core.model import ModelSpec
from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.core.workload import Closed, Fixed, Workload
from planner.run.execute import execute
from planner.run.fleet import Fleet
from planner.run.losses import Loss, Recovered
from planner.run.measurement import Measurement
from planner.run.probe import SHAPES, SMALL, probe_model
from planner.run.seeded import make_checkpoint
from planner.run.settings import Settings
from planner.run.setup import Setup

_ALONE = ((0, 8),)
_PIPELINE = ((0, 3), (3, 6), (6, 8))
_HALVES = ((0, 4), (4, 8))
_LOSSES_S = (0.2, 0.8, 1.4)
"""When the last stage is lost, to see how long taking over takes."""
_PROMPT, _OUTPUT, _REQUESTS, _USERS = 32, 48, 4, 2
_NODES = ("a", "b", "c")
_FAST_BYTES_PER_S = 1e12
_LOADS = 3


@dataclass(frozen=True, slots=True)
class MeasuredOverheads:
    """Seconds of a hop and of the coordinator, and what steps took inside real workers."""

    hop_s: float
    coordinator_step_s: float
    takeover_s: float
    """Of a stage that was lost, the replay of what it had computed left out."""
    worker_steps: list[MeasuredStep]
    """One per stage and kind of batch: the median over its run."""
    loads: list[MeasuredLoad]
    """Of fresh workers, a small and a large stage each."""


def measure_overheads(device: Device, quant: QuantScheme, on: str = "cpu") -> MeasuredOverheads:
    """Runs a tiny model on one local worker and on three; raises RunError if that fails."""
    problem = _tiny(device, quant)
    requests = problem.workload.sample(0)
    with tempfile.TemporaryDirectory() as folder:
        path = make_checkpoint(Path(folder) / "tiny", problem.model)
        setup = Setup(problem, _plan(quant, _ALONE), path, threads=device.threads, device=on)
        alone = execute(setup, requests)
        shared = _threads(device, len(_PIPELINE))
        setup = replace(setup, plan=_plan(quant, _PIPELINE), threads=shared)
        pipeline = execute(setup, requests)
        takeover_s = _takeover_s(problem, quant, path, on)
    between = [hop.seconds for way in pipeline.hops for hop in way.hops if hop.phase == "decode"]
    own = [step.compute_s for steps in pipeline.coordinator for step in steps]
    return MeasuredOverheads(
        hop_s=statistics.median(between),
        coordinator_step_s=statistics.median(own),
        takeover_s=takeover_s,
        worker_steps=[
            step
            for run in (alone, pipeline)
            if run.threads == device.threads
            for step in _typical(device, problem, quant, run)
        ],
        loads=_loads(device, quant, on),
    )


def _loads(device: Device, quant: QuantScheme, on: str) -> list[MeasuredLoad]:
    """What fresh workers take to load stages, one after the other."""
    loads = []
    for shape in (SMALL, SHAPES["cpu" if on == "cpu" else "cuda"][-2]):
        problem = _tiny(device, quant, probe_model(*shape))
        layers = problem.model.num_hidden_layers
        plan = _plan(quant, ((0, layers),))
        stage = plan.pipelines[0].stages[0]
        with tempfile.TemporaryDirectory() as folder:
            path = make_checkpoint(Path(folder) / "model", problem.model)
            settings = Settings(
                checkpoint=path,
                slot_tokens=_PROMPT + _OUTPUT,
                threads=device.threads or 1,
                device=on,
            )
            with Fleet(problem.cluster, plan, settings) as fleet:
                for _ in range(_LOADS):
                    worker = fleet.spawn(stage.node)
                    began_s = time.monotonic()
                    fleet.load(worker, (0, 0))
                    taken_s = time.monotonic() - began_s
                    size = weights_bytes(problem, stage)
                    loads.append(MeasuredLoad(problem.model, stage, quant, _USERS, size, taken_s))
                    fleet.fence_off(worker)
    return loads


def _takeover_s(problem: Problem, quant: QuantScheme, path: Path, on: str) -> float:
    """What taking over a stage takes besides computing its inputs again, in the median."""
    plan = _plan(quant, _HALVES)
    standby = Standby(node=_NODES[2], pipeline=0, stage=1, state="hot")
    workload = problem.workload.model_copy(update={"requests": _REQUESTS * len(_LOSSES_S)})
    setup = Setup(
        problem.model_copy(update={"workload": workload}),
        plan.model_copy(update={"standbys": (standby,)}),
        path,
        threads=_threads(problem.cluster.device(_NODES[0]), len(_NODES)),
        device=on,
    )
    losses = [Loss("", at_s, 0.0, post=(0, 1)) for at_s in _LOSSES_S]
    run = execute(setup, workload.sample(0), losses=losses)
    return max(0.0, statistics.median(map(_beside_replays_s, run.recoveries)))


def _beside_replays_s(one: Recovered) -> float:
    """What a recovery took besides its replays, as they are once a size has been computed."""
    warm_s = min((step.compute_s for step in one.replays), default=0.0)
    return one.recovered_s - one.found_s - len(one.replays) * warm_s


def _threads(device: Device, workers: int) -> int | None:
    """Compute threads for each of several workers, so that they do not fight for the cores."""
    if device.threads is None or device.host_threads is None:
        return None
    return max(1, min(device.threads, device.host_threads // workers))


def _tiny(device: Device, quant: QuantScheme, model: ModelSpec | None = None) -> Problem:
    """A small model, or another one, and three nodes without any network between them."""
    guess = Calibration(efficiency={"*": Efficiency(bandwidth=1, compute=1)}, source="not used")
    nodes = tuple(Node(id=name, device=device.id) for name in _NODES)
    return Problem(
        name="overheads",
        cluster=Cluster(
            devices=(device,),
            nodes=nodes,
            links=(Link(src="*", dst="*", one_way_latency_s=0, bytes_per_s=_FAST_BYTES_PER_S),),
            coordinator=_NODES[0],
        ),
        model=model or probe_model(*SMALL),
        engine=Engine(
            id=device.id,
            name="planner runtime",
            version="probed",
            calibrations=(guess,),
            source=device.source,
            as_of=device.as_of,
        ),
        quants=(quant,),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=_USERS),
            prompt=Fixed(tokens=_PROMPT),
            output=Fixed(tokens=_OUTPUT),
            requests=_REQUESTS,
        ),
    )


def _plan(quant: QuantScheme, cuts: Sequence[tuple[int, int]]) -> Plan:
    """The tiny model cut between as many nodes."""
    stages = tuple(
        Stage(node=node, start=start, stop=stop, quant=quant.id)
        for node, (start, stop) in zip(_NODES, cuts, strict=False)
    )
    return Plan(pipelines=(Pipeline(stages=stages, max_num_seqs=_USERS),))


def _typical(
    device: Device, problem: Problem, quant: QuantScheme, run: Measurement
) -> list[MeasuredStep]:
    typical = []
    for stage in run.stages:
        for phase, sequences in (("prefill", 1), ("decode", 1), ("decode", _USERS)):
            steps = [s for s in stage.steps if s.phase == phase and s.sequences == sequences]
            if not steps:
                continue
            batch = Batch(
                steps[0].phase,
                sequences,
                steps[0].new_tokens,
                statistics.fmean(step.context_tokens for step in steps),
            )
            seconds = statistics.median(step.compute_s for step in steps)
            layers = (stage.stage.start, stage.stage.stop)
            typical.append(MeasuredStep(device, problem.model, *layers, quant, batch, seconds))
    return typical
