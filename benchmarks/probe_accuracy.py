"""Predicted against measured on model shapes that the probe never saw.

Probes this host, then plans, simulates and runs three models of other widths and depths on one
worker, and prints the error of every figure:

    python benchmarks/probe_accuracy.py
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


def planner(*arguments: str) -> dict[str, object]:
    """The JSON document one planner command prints."""
    command = [sys.executable, "-m", "planner", *arguments, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} exited {done.returncode}:\n{done.stderr}")
    document: dict[str, object] = json.loads(done.stdout)
    return document


def main() -> int:
    """Print one row per model, number of users and metric; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        profiles = folder / "profiles"
        planner("probe", "--out", str(profiles))
        (profiles / "models").mkdir()
        for name, shape in SHAPES.items():
            (profiles / "models" / f"{name}.yaml").write_text(MODEL.format(*shape))
        print(f"{'model':<8} {'users':>5}  {'metric':<13} {'median':>8} {'worst':>8}  every run")
        for name in SHAPES:
            for users in options.users:
                scenario, manifest = folder / "scenario.yaml", folder / "manifest.yaml"
                text = SCENARIO.format(model=name, users=users, requests=8 * users)
                scenario.write_text(text)
                common = ("--profiles", str(profiles), "--out", str(manifest))
                planner("plan", str(scenario), *common)
                found: dict[str, list[float]] = {metric: [] for metric in BOUNDS}
                for _ in range(options.runs):
                    checkpoint = str(folder / f"checkpoint-{name}")
                    error = planner("run", str(manifest), "--checkpoint", checkpoint)["error"]
                    assert isinstance(error, dict)
                    for metric in BOUNDS:
                        found[metric].append(float(error[metric]))
                for metric, values in found.items():
                    worst = max(values, key=abs)
                    broken += abs(statistics.median(values)) > BOUNDS[metric]
                    print(
                        f"{name:<8} {users:>5}  {metric:<13} {statistics.median(values):>+8.1%} "
                        f"{worst:>+8.1%}  {' '.join(f'{value:+.1%}' for value in values)}",
                        flush=True,
                    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
