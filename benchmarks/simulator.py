"""How fast the simulator is: output tokens per CPU second, and how its cost grows with requests.

python benchmarks/simulator.py [--trace ../shared/data/traces/azure2023_conv.csv] [--only NAME]

Every row is a whole ``planner simulate`` of a manifest, in a process of its own: starting, reading
the manifest, drawing the requests, simulating, metrics and output. Modules are compiled before, as
they are where planner is installed. Tokens are those of answered requests.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.core.problem import Problem
from planner.files.manifest import Manifest, ObjectiveValue, write_manifest
from planner.files.scenario import scenario_from
from planner.files.yamlfile import parse_yaml
from planner.plan.predict import predict

SCENARIO = """
schema_version: "1.0"
name: speed
model: {model}
engine: {engine}
quants: [{quant}]
coordinator: home
nodes:
  - {{id: home}}
  - {{id: node, replicas: {nodes}, device: {device}, price: 0.4 USD/h, trust: rented{churn}}}
network: {{default: {network}}}
workload:
  arrivals: {{kind: poisson, rate: {rate} req/s}}
  prompt: {{kind: lognormal, median_tokens: 400, sigma: 0.9, max_tokens: 14050}}
  output: {{kind: lognormal, median_tokens: 170, sigma: 0.75, max_tokens: 1024}}
  requests: {requests}
objective: tpot
serving: {{max_num_seqs: {seats}, detect: 2 s{serving}}}
"""
CHURN = ", churn: marketplace-interruptible"


def scene(
    pipelines: int,
    stages: int,
    requests: int,
    rate: float,
    *,
    model: str = "llama-3.1-8b",
    engine: str = "vllm",
    quant: str = "bf16",
    device: str = "rtx-4090",
    churn: bool = False,
    network: str = "cloud-same-zone",
    seats: int = 128,
    groups: int = 1,
    blocks: int | None = None,
) -> tuple[Problem, Plan]:
    """So many equal pipelines, and with churn a hot standby for every stage."""
    text = SCENARIO.format(
        model=model,
        engine=engine,
        quant=quant,
        device=device,
        nodes=pipelines * stages * (1 + churn),
        churn=CHURN if churn else "",
        network=network,
        rate=rate,
        requests=requests,
        seats=seats,
        serving=f", kv_blocks: {blocks}" if blocks else "",
    )
    problem = scenario_from(parse_yaml(text, "speed.yaml"), Path("speed.yaml"), []).problem
    names = [node.id for node in problem.cluster.workers]
    layers = problem.model.num_hidden_layers
    ends = [layers * index // stages for index in range(stages + 1)]
    placed = [
        Pipeline(
            stages=tuple(
                Stage(
                    node=names[number * stages + index],
                    start=ends[index],
                    stop=ends[index + 1],
                    quant=quant,
                )
                for index in range(stages)
            ),
            max_num_seqs=seats,
            micro_batches=groups,
        )
        for number in range(pipelines)
    ]
    spares = names[pipelines * stages :]
    standbys = tuple(
        Standby(node=name, pipeline=number // stages, stage=number % stages, state="hot")
        for number, name in enumerate(spares)
    )
    return problem, Plan(pipelines=tuple(placed), standbys=standbys)


@cache
def compiled() -> dict[str, str]:
    """An environment in which every module that the command imports is compiled."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": folder.name}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    manifest = Path(folder.name) / "manifest.yaml"
    write(manifest, *scene(1, 1, 1, 1.0, churn=True))
    command = [sys.executable, "-m", "planner", "simulate", str(manifest), "--format", "json"]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    return environ


def write(manifest: Path, problem: Problem, plan: Plan) -> None:
    """Writes a manifest of a plan that was placed by hand."""
    write_manifest(
        manifest,
        Manifest(
            problem_digest=problem.digest,
            objective=ObjectiveValue(name="tpot", value=None, unit="s", direction="min"),
            solver="placed by hand",
            plan=plan,
            prediction=predict(problem, plan),
            problem=problem,
        ),
    )


def measure(name: str, made: tuple[Problem, Plan], trace: Path | None = None) -> None:
    """Runs the command and prints a row."""
    with TemporaryDirectory() as folder:
        manifest, said = Path(folder) / "manifest.yaml", Path(folder) / "said.json"
        write(manifest, *made)
        command = [sys.executable, "-m", "planner", "simulate", str(manifest), "--format", "json"]
        command += ["--trace", str(trace)] if trace else []
        with said.open("w") as out:
            running = subprocess.Popen(
                command, stdout=out, stderr=subprocess.DEVNULL, env=compiled()
            )
            _, status, used = os.wait4(running.pid, 0)
        if status:
            sys.exit(f"{name}: the command failed")
        target = json.loads(said.read_text())["targets"][0]
    events, found = target["events"], target["metrics"]
    answered, spent_s = found["completed"], used.ru_utime + used.ru_stime
    tokens = found["output_throughput"] * answered / found["request_throughput"]
    print(
        f"{name:32} {answered:9,} {tokens:12,.0f} {spent_s:8.2f} {tokens / spent_s:12,.0f}"
        f" {events['failures']:6} {events['preemptions']:7} {used.ru_maxrss / 1024:7,.0f}",
        flush=True,
    )


def main() -> None:
    """Runs every scene, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, help="requests for the pipeline of three stages")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(f"{'':32} answered       tokens    CPU s tokens/CPU s  lost preempt     MiB")
    scenes = {
        "replicas": lambda: measure("replicas", scene(4, 1, 20_000, 12.0)),
        "runtime rules": lambda: measure(
            "runtime rules",
            scene(
                1,
                1,
                20_000,
                2.0,
                engine="llama.cpp",
                quant="q4_k_m",
                network="lan-10g",
                seats=8,
            ),
        ),
        "paging and churn": lambda: measure(
            "paging and churn", scene(4, 1, 20_000, 12.0, churn=True, blocks=2588)
        ),
        "wide area": lambda: measure(
            "wide area, 24 nodes",
            scene(
                8,
                3,
                2_000,
                1.5,
                model="llama-3.3-70b",
                quant="int4-g128",
                network="internet-eu",
                seats=32,
                groups=3,
            ),
        ),
        "growth": lambda: [
            measure(f"growth {count:,}", scene(4, 1, count, 12.0))
            for count in (10_000, 100_000, 1_000_000)
        ],
    }
    if options.trace is not None:
        three = scene(1, 3, 1, 5.0, churn=True, seats=256)
        scenes["trace"] = lambda: measure("trace, 3 stages, churn", three, options.trace)
    for name, run in scenes.items():
        if options.only in ("", name):
            run()


if __name__ == "__main__":
    main()
