"""Recovery of a lost stage, predicted against measured, on a machine that was just probed.

Takes a manifest of the demo, gives each of its stages a hot standby in turn, kills the stage
while four users are served and prints how long taking over took beside the simulator's figure:

    planner probe --workers 3 --out build/profiles
    planner plan scenarios/demo.yaml --profiles build/profiles --out build/manifest.yaml
    python benchmarks/recovery.py build/manifest.yaml build/checkpoint --runs 3
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from planner.cli.struck import struck
from planner.core.cluster import Cluster
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem
from planner.files.manifest import read_manifest
from planner.run.execute import execute
from planner.run.losses import Loss
from planner.run.seeded import make_checkpoint
from planner.sim.simulate import simulate

SPARE = "spare"
AT_S = 1.0


def with_spare(base: Problem) -> Problem:
    """The demo with one more node, as far from the others as they are by default."""
    hub = base.cluster.node("hub")
    nodes = (*base.cluster.nodes, hub.model_copy(update={"id": SPARE}))
    cluster = Cluster(**(dict(base.cluster) | {"nodes": nodes}))
    workload = base.workload.model_copy(update={"requests": 12})
    return base.model_copy(update={"cluster": cluster, "workload": workload})


def main() -> None:
    """Print predicted and measured milliseconds of every recovery, and the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    manifest = read_manifest(options.manifest)
    problem, (pipeline,) = with_spare(manifest.problem), manifest.plan.pipelines
    folder = make_checkpoint(options.checkpoint, problem.model)
    requests = problem.workload.sample(0)
    errors = []
    for stage in range(len(pipeline.stages)):
        standby = Standby(node=SPARE, pipeline=0, stage=stage, state="hot")
        plan = Plan(pipelines=(pipeline,), standbys=(standby,))
        for _ in range(options.runs):
            loss = Loss(pipeline.nodes[stage], AT_S)
            run = execute(problem, plan, requests, folder, threads=1, losses=[loss])
            assert all(record.status == "completed" for record in run.records)
            (one,) = run.recoveries
            (known,) = simulate(struck(problem, run), plan, 0, requests).recoveries
            measured_s = one.recovered_s - one.found_s
            predicted_s = known.recovered_s - known.detected_s
            errors.append(predicted_s / measured_s - 1)
            print(
                f"stage {stage}: noticed after {1e3 * (one.found_s - one.lost_s):6.1f} ms, "
                f"predicted {1e3 * predicted_s:6.1f} ms, measured {1e3 * measured_s:6.1f} ms, "
                f"{errors[-1]:+.0%}",
                flush=True,
            )
    median = statistics.median(abs(error) for error in errors)
    print(f"median |error| {median:.0%}, worst {max(map(abs, errors)):.0%}, {len(errors)} runs")


if __name__ == "__main__":
    main()
