"""A measured run of vLLM, replayed: its arrivals and lengths, our seconds beside the measured ones.

python benchmarks/vllm_replay.py ../shared/data/traces/vllm_e2e_rtx4090_llama31_8b.csv

The file is a run of vLLM 0.19 on one RTX 4090 (casys-kaist/LLMServingSim, MIT). Step times are from
kernel times, not from the run; what was set for it (blocks of KV cache, most sequences, tokens per
step) is set here. How far uneven sequences slow a step down (``kv_skew``) is known roughly only:
--skew shows what it does.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

from planner.core.metrics import RequestRecord, percentile
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.files.scenario import scenario_from
from planner.files.trace import read_trace
from planner.files.yamlfile import parse_yaml
from planner.sim.result import SimResult
from planner.sim.simulate import simulate

SCENARIO = """
schema_version: "1.0"
name: vllm-replay
model: llama-3.1-8b
engine: vllm
quants: [bf16]
coordinator: box
nodes:
  - {id: box, device: rtx-4090}
workload:
  arrivals: {kind: poisson, rate: 10 req/s}
  prompt: {kind: fixed, tokens: 4096}
  output: {kind: fixed, tokens: 4096}
objective: tpot
serving: {max_num_seqs: 256, kv_blocks: 2588}
"""
PERCENTILES = (10, 25, 50, 75, 90, 95, 99)

Latencies = dict[str, list[float]]


def replay(problem: Problem, path: Path) -> SimResult:
    """The simulated run."""
    layers = problem.model.num_hidden_layers
    stage = Stage(node="box", start=0, stop=layers, quant=problem.quants[0].id)
    plan = Plan(pipelines=(Pipeline(stages=(stage,), max_num_seqs=256),))
    return simulate(problem, plan, 0, read_trace(path).requests, own_times=True)


def measured(path: Path) -> Latencies:
    """TTFT, TPOT and E2EL of every request of the real run (s)."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    records = [
        RequestRecord(
            number,
            0,
            int(row["in_tokens"]),
            float(row["arrive_s"]),
            [float(row["first_s"]), float(row["last_s"])],
            delivered=int(row["out_tokens"]),
        )
        for number, row in enumerate(rows)
    ]
    return latencies(records)


def latencies(records: list[RequestRecord]) -> Latencies:
    """By name, of every request (s)."""
    return {
        "ttft": [record.ttft_s for record in records],
        "tpot": [time for record in records if (time := record.tpot_s) is not None],
        "e2el": [record.e2el_s for record in records],
    }


def mean(values: list[float]) -> float:
    """Mean of some seconds."""
    return math.fsum(values) / len(values)


def main() -> None:
    """Prints means and percentiles, measured and simulated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--skew", type=float, help="kv_skew instead of the profile's")
    options = parser.parse_args()
    path, problem = options.path, scenario()
    if options.skew is not None:
        engine = problem.engine.model_copy(update={"kv_skew": options.skew})
        problem = problem.model_copy(update={"engine": engine})
    real, result = measured(path), replay(problem, path)
    simulated = latencies(result.records)
    print("               measured s  simulated s    error")
    for name, values in real.items():
        rows = [("mean", mean(values), mean(simulated[name]))]
        ordered = sorted(values), sorted(simulated[name])
        rows += [(f"p{at}", *(percentile(each, at) for each in ordered)) for at in PERCENTILES]
        for label, its, mine in rows:
            print(f"{name:5} {label:5} {its:13.4f} {mine:12.4f} {mine / its - 1:+8.1%}")
    print(f"{result.events['preemptions']} preemptions, {result.metrics.completed} completed")


def scenario() -> Problem:
    """The machine and the engine of the run."""
    name = "vllm-replay.yaml"
    return scenario_from(parse_yaml(SCENARIO, name), Path(name), []).problem


if __name__ == "__main__":
    main()
