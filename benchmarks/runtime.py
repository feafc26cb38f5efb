"""Speed of the bundled runtime on this CPU, as ratios taken within the same seconds.

A random model of about 300 M parameters. Each round times every contender in turn, so that a
machine whose memory is faster in one minute than in the next changes no ratio:

    python benchmarks/runtime.py --rounds 8
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from planner.core.model import ModelSpec
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed, Workload
from planner.run.checkpoint import open_checkpoint
from planner.run.contest import settled
from planner.run.execute import execute
from planner.run.linear import Kernels, race
from planner.run.model import CacheShape
from planner.run.model import Stage as Layers
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup
from tests.run.world import problem

LAYERS, PROMPT, STEPS = 16, 128, 12
EIGHT = 8


def spec() -> ModelSpec:
    """Hidden 1024, 16 layers, 16 heads of 64 in 4 groups, 32,000 tokens: 309 M parameters."""
    return ModelSpec.model_validate(
        {
            "id": "seeded-300m",
            "family": "random",
            "model_type": "llama",
            "hidden_size": 1024,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "intermediate_size": 4096,
            "vocab_size": 32000,
            "max_position_embeddings": 1024,
            "source": "made up",
            "as_of": "2026-01-01",
        }
    )


def loaded(folder: Path, quant: str, slots: int) -> Layers:
    """The whole model as one stage, its slots holding a prompt."""
    opened, cache = open_checkpoint(folder), CacheShape(slots, 256)

    def make(kernels: Kernels) -> Layers:
        return Layers(opened, 0, LAYERS, quant, cache, kernels=kernels)

    stage = settled(make, race(quant, "cpu", slots))
    for slot in range(slots):
        stage.prefill(torch.arange(PROMPT), slot)
    return stage


def decode_s(stage: Layers, rows: int) -> float:
    """Median seconds of a decode step."""
    taken = []
    for step in range(STEPS):
        start_s = time.perf_counter()
        stage.decode(torch.arange(rows), range(rows), [PROMPT + step] * rows).argmax(-1).tolist()
        taken.append(time.perf_counter() - start_s)
    return statistics.median(taken)


def generate_s(model: Any) -> float:
    """Seconds per token of ``generate``, its prompt left out."""

    def timed(tokens: int) -> float:
        start_s = time.perf_counter()
        model.generate(
            torch.arange(PROMPT)[None],
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - start_s

    return (timed(STEPS + 1) - timed(1)) / STEPS


def read_bytes_per_s(data: torch.Tensor) -> float:
    """What a streaming read reaches, median of five."""
    taken = []
    for _ in range(5):
        start_s = time.perf_counter()
        data.sum()
        taken.append(time.perf_counter() - start_s)
    return data.nbytes / statistics.median(taken)


def matvec_bytes_per_s(weights: list[torch.Tensor]) -> float:
    """What torch's best matrix-vector product alone reads of bf16 weights, cold in cache."""
    x = torch.randn(1, 1024, dtype=torch.bfloat16)
    torch._C._set_mkldnn_enabled(False)
    start_s = time.perf_counter()
    for weight in weights:
        torch.nn.functional.linear(x, weight)
    taken_s = time.perf_counter() - start_s
    torch._C._set_mkldnn_enabled(True)
    return sum(weight.nbytes for weight in weights) / taken_s


def say(name: str, values: list[float], unit: str = "x", scale: float = 1.0) -> None:
    """Median and spread of a ratio."""
    ordered = sorted(scale * value for value in values)
    print(
        f"{name:<58} {statistics.median(ordered):7.2f} {unit}  "
        f"({ordered[0]:.2f} to {ordered[-1]:.2f} in {len(ordered)} rounds)"
    )


def kernels(folder: Path, rounds: int, theirs: bool) -> None:
    """One process: against transformers, against memory, batch and int8."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    one, eight, narrow = (
        loaded(folder, quant, slots) for quant, slots in (("bf16", 1), ("bf16", EIGHT), ("int8", 1))
    )
    print(f"kernels: {one.kernels}; {eight.kernels}; {narrow.kernels}")
    assert one.head is not None
    read = sum(layer.weight_bytes for layer in one.layers) + one.head.weight_bytes
    data = torch.ones(2**27)
    weights = [torch.randn(4096, 1024).to(torch.bfloat16) for _ in range(40)]
    contenders: dict[str, Callable[[], float]] = {
        "one": lambda: decode_s(one, 1),
        "read": lambda: read_bytes_per_s(data),
        "matvec": lambda: matvec_bytes_per_s(weights),
        "int8": lambda: decode_s(narrow, 1),
        "eight": lambda: decode_s(eight, EIGHT),
    }
    if theirs:
        import transformers

        transformers.logging.set_verbosity_error()
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        contenders["generate"] = lambda: generate_s(model.eval())
    for measure in contenders.values():
        measure()
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            seen[name].append(measure())
    pairs = list(zip(seen["one"], seen["read"], strict=True))
    say("decode bf16, batch 1", seen["one"], "ms", 1e3)
    if theirs:
        both = zip(seen["generate"], seen["one"], strict=True)
        say("faster than transformers' generate", [a / b for a, b in both])
    say("share of the streaming read", [read / own / rate for own, rate in pairs], "%", 100)
    both = zip(seen["matvec"], seen["read"], strict=True)
    say("torch's matrix-vector product alone", [a / b for a, b in both], "%", 100)
    both = zip(seen["one"], seen["int8"], strict=True)
    say("int8 faster than bf16", [a / b for a, b in both])
    both = zip(seen["one"], seen["eight"], strict=True)
    say("throughput of batch 8 over batch 1", [EIGHT * a / b for a, b in both])


def two_stages(folder: Path, rounds: int) -> None:
    """Two worker processes: TPOT against their own stage times plus the hops."""
    model = spec()
    world: Problem = problem(
        2,
        model,
        quant="bf16",
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=1),
            prompt=Fixed(tokens=PROMPT),
            output=Fixed(tokens=24),
            requests=2,
        ),
    )
    half = LAYERS // 2
    stages = (
        Stage(node="w0", start=0, stop=half, quant="bf16"),
        Stage(node="w1", start=half, stop=LAYERS, quant="bf16"),
    )
    plan = Plan(pipelines=(Pipeline(stages=stages),))
    ratios = []
    for _ in range(rounds):
        run = execute(
            Setup(world, plan, folder, threads=1, compiled=True), world.workload.sample(0)
        )
        tpot_s = statistics.mean(
            (one.token_s[-1] - one.token_s[0]) / (len(one.token_s) - 1) for one in run.records
        )
        parts_s = sum(
            statistics.mean(step.compute_s for step in stage.steps if step.phase == "decode")
            for stage in run.stages
        )
        parts_s += sum(
            statistics.mean(hop.seconds for hop in way.hops if hop.phase == "decode")
            for way in run.hops
        )
        ratios.append(tpot_s / parts_s)
    say("two stages: TPOT over stages plus hops", ratios)


def main() -> None:
    """Print every ratio with its spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", choices=["kernels", "stages"])
    parser.add_argument("--no-transformers", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = make_checkpoint(Path(folder) / "model", spec())
        if options.only != "stages":
            kernels(path, options.rounds, not options.no_transformers)
        if options.only != "kernels":
            two_stages(path, max(1, options.rounds // 3))


if __name__ == "__main__":
    main()
