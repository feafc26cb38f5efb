"""Recovery of a lost stage, predicted against measured, on a machine that was just probed.

Gives each stage of the demo a hot standby in turn, kills the stage while four users are served
and prints how long taking over took beside the simulator's figure. Profiles and recoveries are kept
in the folder, the one of ``benchmarks.run_accuracy`` if you like:

    python -m benchmarks.recovery build/run-accuracy --runs 3
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.kept import demo, keep, kept, spread
from planner.cli.struck import struck
from planner.core.cluster import Cluster
from planner.core.drift import as_found
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem
from planner.files.manifest import read_manifest
from planner.run.execute import execute
from planner.run.losses import Loss
from planner.run.seeded import make_checkpoint
from planner.sim.simulate import simulate

SPARE = "spare"
AT_S = 1.0
BOUND = 0.30


def with_spare(base: Problem) -> Problem:
    """The demo with one more node, as far from the others as they are by default."""
    hub = base.cluster.node("hub")
    nodes = (*base.cluster.nodes, hub.model_copy(update={"id": SPARE}))
    cluster = Cluster(**(dict(base.cluster) | {"nodes": nodes}))
    workload = base.workload.model_copy(update={"requests": 12})
    return base.model_copy(update={"cluster": cluster, "workload": workload})


def measure(folder: Path, stages: list[int] | None, runs: int) -> None:
    """Kills stages and keeps how long each recovery took, predicted and measured."""
    problem = with_spare(demo(folder))
    (pipeline,) = read_manifest(folder / "manifest.yaml").plan.pipelines
    checkpoint = make_checkpoint(folder / "checkpoint", problem.model)
    requests = problem.workload.sample(0)
    for stage in stages if stages is not None else range(len(pipeline.stages)):
        standby = Standby(node=SPARE, pipeline=0, stage=stage, state="hot")
        plan = Plan(pipelines=(pipeline,), standbys=(standby,))
        for _ in range(runs):
            losses = [Loss(pipeline.nodes[stage], AT_S)]
            run = execute(problem, plan, requests, checkpoint, threads=1, losses=losses, gauge=True)
            assert all(record.status == "completed" for record in run.records)
            (one,) = run.recoveries
            found = struck(as_found(problem, run.speeds, run.paces), run)
            (known,) = simulate(found, plan, 0, requests).recoveries
            row = {
                "stage": stage,
                "noticed_s": one.found_s - one.lost_s,
                "predicted_s": known.recovered_s - known.detected_s,
                "measured_s": one.recovered_s - one.found_s,
            }
            keep(folder / "recoveries.jsonl", row)


def show(folder: Path) -> int:
    """Prints every recovery and the errors; how many are off by more than the bound."""
    errors: dict[int, list[float]] = {}
    for row in kept(folder / "recoveries.jsonl"):
        error = row["predicted_s"] / row["measured_s"] - 1
        errors.setdefault(row["stage"], []).append(error)
        print(
            f"stage {row['stage']}: noticed after {1e3 * row['noticed_s']:6.1f} ms, predicted "
            f"{1e3 * row['predicted_s']:6.1f} ms, measured {1e3 * row['measured_s']:6.1f} ms, "
            f"{error:+.0%}"
        )
    for stage, values in sorted(errors.items()):
        print(f"stage {stage}: {spread(values)}")
    return sum(abs(error) > BOUND for values in errors.values() for error in values)


def main() -> int:
    """Measure what is asked for, then print what is kept; 1 where the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="keeps profiles, manifest and every run")
    parser.add_argument("--runs", type=int, default=3, help="0 prints what is there")
    parser.add_argument("--stages", type=int, nargs="+")
    options = parser.parse_args()
    if options.runs:
        measure(options.folder, options.stages, options.runs)
    return 1 if show(options.folder) else 0


if __name__ == "__main__":
    raise SystemExit(main())
