"""How fast the simulator is: output tokens per CPU second, and how its cost grows with requests.

python benchmarks/simulator.py [SCENARIO] [--requests N]
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

from planner.files.scenario import load_scenario
from planner.plan.solve import solve
from planner.sim.simulate import simulate

SCENARIO = Path(__file__).parent.parent / "scenarios" / "marketplace.yaml"


def main() -> None:
    """Simulates a scenario with once, ten and a hundred times N requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="?", type=Path, default=SCENARIO)
    parser.add_argument("--requests", type=int, default=20)
    options = parser.parse_args()
    problem = load_scenario(options.scenario, []).problem
    plan = solve(problem).plan
    stages = "+".join(str(len(pipeline.stages)) for pipeline in plan.pipelines)
    print(f"{options.scenario.stem}: pipelines of {stages} stages")
    print("requests    tokens   CPU s   tokens/CPU s  failures    peak MiB")
    for factor in (1, 10, 100):
        count = options.requests * factor
        workload = problem.workload.model_copy(update={"requests": count, "warmup_requests": 0})
        began_s = time.process_time()
        result = simulate(problem.model_copy(update={"workload": workload}), plan)
        spent_s = time.process_time() - began_s
        tokens = sum(record.output_tokens for record in result.records)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{count:8} {tokens:9} {spent_s:7.2f} {tokens / spent_s:14,.0f} "
            f"{result.events['failures']:9} {peak_mib:11.0f}"
        )


if __name__ == "__main__":
    main()
