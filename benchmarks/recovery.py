"""Recovery of a lost stage, predicted against measured, on a machine that was just probed.

Gives each stage of the demo a standby in turn, kills the stage while four users are served and
prints how long taking over took beside what plan and simulator say. The standby is hot (a process
holds the stage), warm (its weights are on disk) or cold (they come over an imitated link from the
coordinator, 10 ms and 400 Mbit/s). Profiles and recoveries are kept in the folder, the one of
``benchmarks.run_accuracy`` if you like:

    python -m benchmarks.recovery build/run-accuracy --runs 3 --states hot warm cold
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kept import demo, keep, kept, spread
from planner.cli.struck import struck
from planner.core.cluster import Link
from planner.core.cost.recovery import recovery
from planner.core.drift import as_found
from planner.core.plan import Plan, Readiness, Standby
from planner.core.problem import Problem
from planner.core.request import Request
from planner.files.manifest import read_manifest
from planner.run.execute import execute
from planner.run.losses import Loss
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup
from planner.sim.simulate import simulate

SPARE = "spare"
BOUND = 0.30
LATENCY_S, BYTES_PER_S = 10e-3, 50e6
STATES: tuple[Readiness, ...] = ("hot", "warm", "cold")


def with_spare(base: Problem) -> Problem:
    """The demo with one more node, a home line away from the coordinator."""
    hub, home = base.cluster.node("hub"), base.cluster.coordinator
    nodes = (*base.cluster.nodes, hub.model_copy(update={"id": SPARE}))
    line = {"one_way_latency_s": LATENCY_S, "bytes_per_s": BYTES_PER_S}
    ends = ((home, SPARE), (SPARE, home))
    links = (*base.cluster.links, *(Link(src=src, dst=dst, **line) for src, dst in ends))
    cluster = base.cluster.model_copy(update={"nodes": nodes, "links": links})
    workload = base.workload.model_copy(update={"requests": 12})
    return base.model_copy(update={"cluster": cluster, "workload": workload})


def halfway_s(problem: Problem, plan: Plan, requests: Sequence[Request]) -> float:
    """When the second request of each user is likely to be half answered.

    All users' requests begin and end together; in between there is nothing to compute again.
    """
    second = simulate(problem, plan, 0, requests).records[problem.workload.concurrency or 1]
    return (second.token_s[0] + second.token_s[-1]) / 2


def measure(folder: Path, stages: list[int] | None, states: list[Readiness], runs: int) -> None:
    """Kills stages and keeps how long each recovery took, predicted and measured."""
    problem = with_spare(demo(folder))
    (pipeline,) = read_manifest(folder / "manifest.yaml").plan.pipelines
    checkpoint = make_checkpoint(folder / "checkpoint", problem.model)
    requests = problem.workload.sample(0)
    every = stages if stages is not None else range(len(pipeline.stages))
    for state, stage in [(state, stage) for state in states for stage in every]:
        standby = Standby(node=SPARE, pipeline=0, stage=stage, state=state)
        plan = Plan(pipelines=(pipeline,), standbys=(standby,))
        for _ in range(runs):
            losses = [Loss(pipeline.nodes[stage], halfway_s(problem, plan, requests))]
            setup = Setup(problem, plan, checkpoint, threads=1, gauge=True)
            run = execute(setup, requests, losses=losses)
            assert all(record.status == "completed" for record in run.records)
            (one,) = run.recoveries
            found = struck(as_found(problem, run.speeds, run.paces), run)
            (known,) = simulate(found, plan, 0, requests).recoveries
            users = problem.workload.concurrency or 1
            row = {
                "state": state,
                "stage": stage,
                "noticed_s": one.found_s - one.lost_s,
                "planned_s": recovery(found, plan, standby, users).total_s,
                "predicted_s": known.recovered_s - known.detected_s,
                "measured_s": one.recovered_s - one.found_s,
                "predicted_replay_s": known.replayed_s,
                "measured_replay_s": sum(step.compute_s for step in one.replays),
            }
            keep(folder / "recoveries.jsonl", row)


def show(folder: Path) -> int:
    """Prints every recovery and the errors; how many are off by more than the bound."""
    errors: dict[tuple[str, int], list[float]] = {}
    broken = 0
    for row in kept(folder / "recoveries.jsonl"):
        measured_s = row["measured_s"]
        planned, simulated = (row[key] / measured_s - 1 for key in ("planned_s", "predicted_s"))
        errors.setdefault((row["state"], row["stage"]), []).append(simulated)
        broken += max(abs(planned), abs(simulated)) > BOUND
        print(
            f"{row['state']:<4} stage {row['stage']}: noticed after {1e3 * row['noticed_s']:6.1f} "
            f"ms, planned {1e3 * row['planned_s']:7.1f} ms ({planned:+.0%}), simulated "
            f"{1e3 * row['predicted_s']:7.1f} ms ({simulated:+.0%}), measured "
            f"{1e3 * measured_s:7.1f} ms, of it computing again "
            f"{1e3 * row['predicted_replay_s']:5.1f} and {1e3 * row['measured_replay_s']:5.1f} ms"
        )
    for (state, stage), values in sorted(errors.items()):
        print(f"{state:<4} stage {stage}: {spread(values)}")
    return broken


def main() -> int:
    """Measure what is asked for, then print what is kept; 1 where the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="keeps profiles, manifest and every run")
    parser.add_argument("--runs", type=int, default=3, help="0 prints what is there")
    parser.add_argument("--stages", type=int, nargs="+")
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES))
    options = parser.parse_args()
    if options.runs:
        measure(options.folder, options.stages, options.states, options.runs)
    return 1 if show(options.folder) else 0


if __name__ == "__main__":
    raise SystemExit(main())
