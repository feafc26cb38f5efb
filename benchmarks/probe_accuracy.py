"""Predicted against measured on model shapes that the probe never saw.

Probes this host, then plans, simulates and runs three models of other widths and depths on one
worker, for some twenty seconds each as ``benchmarks.run_accuracy`` does, and prints the error of
every figure:

    python -m benchmarks.probe_accuracy build/probe-accuracy

Profiles and runs are kept in the folder, so it can be done in pieces (``--models``, ``--users``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks.kept import Row, keep, kept, planner, spread
from benchmarks.run_accuracy import LEAST_ROUNDS, lasting
from planner.files.manifest import read_manifest

BOUNDS = {"mean_tpot_ms": 0.10, "mean_ttft_ms": 0.15}
SHAPES = {
    "wide": (1024, 6, 2816, 16, 4, 12000),
    "deep": (512, 16, 1536, 8, 2, 6000),
    "middle": (896, 10, 2400, 14, 2, 20000),
}
"""Hidden size, layers, intermediate size, heads, key/value heads and vocabulary."""

MODEL = """\
family: random
model_type: llama
hidden_size: {}
num_hidden_layers: {}
intermediate_size: {}
num_attention_heads: {}
num_key_value_heads: {}
vocab_size: {}
max_position_embeddings: 2048
source: benchmarks/probe_accuracy.py
as_of: 2026-01-01
"""
SCENARIO = """\
schema_version: "1.0"
name: probe-accuracy
model: {model}
engine: this-host
quants: [bf16]
coordinator: home
nodes:
  - {{id: home, device: this-host, host: here}}
network: {{default: loopback}}
workload:
  arrivals: {{kind: closed, concurrency: {users}}}
  prompt: {{kind: fixed, tokens: 200}}
  output: {{kind: fixed, tokens: 48}}
  requests: {requests}
objective: tpot
run: {{seeded: {{seed: 1}}}}
"""


def measure(folder: Path, name: str, users: int, runs: int, seconds: float) -> None:
    """Plans and runs one model for some users, and keeps the errors of every run."""
    profiles, checkpoint = folder / "profiles", folder / f"checkpoint-{name}"
    card = profiles / "models" / f"{name}.yaml"
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_text(MODEL.format(*SHAPES[name]))
    scenario, manifest = folder / "scenario.yaml", folder / "manifest.yaml"

    def plan(requests: int) -> None:
        scenario.write_text(SCENARIO.format(model=name, users=users, requests=requests))
        planner("plan", str(scenario), "--profiles", str(profiles), "--out", str(manifest))

    plan(LEAST_ROUNDS * users)
    short = read_manifest(manifest)
    plan(lasting(short.problem, short.plan, seconds).workload.requests)
    for _ in range(runs):
        told = planner("run", str(manifest), "--checkpoint", str(checkpoint))
        row = {name: told[name] for name in ("error", "planned_error", "hosts", "stages")}
        keep(folder / "results.jsonl", {"model": name, "users": users} | row)


def show(folder: Path) -> int:
    """Prints a row per model, number of users and metric; how many medians break a bound."""
    broken = 0
    found: dict[tuple[str, int], list[Row]] = {}
    for row in kept(folder / "results.jsonl"):
        found.setdefault((row["model"], row["users"]), []).append(row)
    print(
        f"{'model':<8} {'users':>5}  {'metric':<13} {'':<9} {'median':>8} {'worst':>8}  every run"
    )
    for (name, users), rows in found.items():
        for metric, bound in BOUNDS.items():
            for said, key in (("as found", "error"), ("as probed", "planned_error")):
                values = [float(row[key][metric]) for row in rows]
                print(f"{name:<8} {users:>5}  {metric:<13} {said:<9} {spread(values)}")
                broken += key == "error" and abs(statistics.median(values)) > bound
    return broken


def main() -> int:
    """Measure what is asked for, then print everything kept; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="keeps the profiles and every run")
    parser.add_argument("--runs", type=int, default=3, help="0 prints what is there")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each is to take")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--workers", type=int, default=1, help="who share the cores, in the probe")
    parser.add_argument("--probe", action="store_true", help="probe even if profiles are there")
    options = parser.parse_args()
    folder: Path = options.folder
    if options.probe or not (folder / "profiles" / "engines").exists():
        workers = str(options.workers)
        where = ("--out", str(folder / "profiles"))
        planner("probe", "--workers", workers, "--quant", "bf16", *where)
    for name in options.models if options.runs else ():
        for users in options.users:
            measure(folder, name, users, options.runs, options.seconds)
    return 1 if show(folder) else 0


if __name__ == "__main__":
    sys.exit(main())
