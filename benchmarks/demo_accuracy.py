"""Predicted against measured on the bundled demo, with its spread over several runs.

Probes this host, plans the demo at each concurrency, runs each plan several times and prints the
error of every run as the README quotes it:

    python benchmarks/demo_accuracy.py --runs 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BOUNDS = {"mean_tpot_ms": 0.15, "mean_ttft_ms": 0.20, "output_throughput": 0.15}


def planner(*arguments: str) -> dict[str, object]:
    """The JSON document one planner command prints."""
    command = [sys.executable, "-m", "planner", *arguments, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} exited {done.returncode}:\n{done.stderr}")
    document: dict[str, object] = json.loads(done.stdout)
    return document


Errors = dict[tuple[int, str], list[float]]
"""Signed errors by concurrency and metric, one per run."""


def errors(folder: Path, levels: list[int], runs: int) -> Errors:
    """Probes once per run, then plans and runs the demo at each concurrency."""
    found: Errors = {(level, name): [] for level in levels for name in BOUNDS}
    for run in range(runs):
        profiles = folder / f"profiles-{run}"
        planner("probe", "--workers", "3", "--out", str(profiles))
        for level in levels:
            manifest = folder / f"{level}-{run}.yaml"
            planner(
                "plan", "scenarios/demo.yaml", "--profiles", str(profiles), "--out", str(manifest),
                "--set", f"workload.arrivals.concurrency={level}",
            )  # fmt: skip
            result = planner("run", str(manifest), "--checkpoint", str(folder / "checkpoint"))
            error = result["error"]
            assert isinstance(error, dict)
            for name in BOUNDS:
                found[level, name].append(float(error[name]))
    return found


def main() -> int:
    """Print one row per concurrency and metric; 1 where a bound of the README is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    broken = 0
    print(f"{'users':>5}  {'metric':<18} {'median':>8} {'worst':>8}  every run")
    with tempfile.TemporaryDirectory() as folder:
        found = errors(Path(folder), options.concurrency, options.runs)
    for (level, name), values in found.items():
        worst = max(values, key=abs)
        broken += abs(worst) > BOUNDS[name]
        print(
            f"{level:>5}  {name:<18} {statistics.median(values):>+8.1%} "
            f"{worst:>+8.1%}  {' '.join(f'{value:+.1%}' for value in values)}"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
