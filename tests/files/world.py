"""A tiny scenario with its profiles, written as people write them."""

from __future__ import annotations

import datetime
from pathlib import Path

from planner.core.errors import FileProblem, InvalidFileError
from planner.core.metrics import Metrics
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.files.manifest import Bound, Manifest, ObjectiveValue
from planner.files.scenario import Scenario, load_scenario
from tests.core.world import problem as tiny_problem

AS_OF = datetime.date(2026, 1, 1)

CARDS = {
    "devices/chip": """\
name: Chip
device_class: test
memory: 8 GiB
memory_bandwidth: 100 GB/s
compute: {bf16: 10 TFLOP/s}
""",
    "devices/odd": """\
name: Odd
device_class: odd
memory: 8 GiB
memory_bandwidth: 100 GB/s
compute: {bf16: 10 TFLOP/s}
""",
    "engines/soft": """\
name: Soft
version: "1.10"
calibrations:
  - device_class: test
    efficiency: {bf16: {bandwidth: 0.8, compute: [[1, 0.2], [64, 0.5]]}}
    source: made up
""",
    "models/tiny": """\
family: tiny
model_type: llama
hidden_size: 64
num_hidden_layers: 4
num_attention_heads: 4
num_key_value_heads: 2
intermediate_size: 128
vocab_size: 100
max_position_embeddings: 1024
""",
    "quants/bf16": "name: BF16\nweight_bits: 16\nlossless: true\n",
    "quants/int8": "name: INT8\nweight_bits: 8\ncompute_dtype: int8\n",
    "networks/lan": "one_way_latency: 1 ms\nbandwidth: 1 Gbit/s\njitter: 0.1 ms\n",
    "churn/flaky": "distribution: exponential\nup_scale: 6 h\ndown_scale: 10 min\n",
    "prices/shop": """\
provider: Shop
apis:
  - {model: tiny, input: 1 USD/Mtok, output: 2 USD/Mtok}
""",
}

SCENARIO = """\
schema_version: "1.0"
name: tiny
model: tiny
engine: soft
quants: [bf16]
coordinator: a
nodes:
  - id: a
    device: chip
    region: eu
  - id: b
    device: chip
    region: us
    price: 0.40 USD/h
network:
  default: lan
workload:
  arrivals: {kind: closed, concurrency: 2}
  prompt: {kind: fixed, tokens: 100}
  output: {kind: fixed, tokens: 10}
"""


def write_cards(folder: Path) -> Path:
    """The cards above, as files of a profiles folder."""
    for name, text in CARDS.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}source: made up\nas_of: {AS_OF}\n")
    return folder


def write_scenario(folder: Path, text: str = SCENARIO, name: str = "tiny.yaml") -> Path:
    """A scenario file beside a folder with its profiles."""
    write_cards(folder / "profiles")
    path = folder / name
    path.write_text(text)
    return path


def load(folder: Path, text: str = SCENARIO, *overrides: str) -> Scenario:
    """The scenario in ``text``."""
    return load_scenario(write_scenario(folder, text), [folder / "profiles"], overrides)


def refused(folder: Path, text: str) -> tuple[FileProblem, ...]:
    """What is wrong with the scenario in ``text``."""
    try:
        load(folder, text)
    except InvalidFileError as error:
        return error.problems
    raise AssertionError("the scenario was accepted")


def manifest(problem: Problem | None = None, **changes: object) -> Manifest:
    """Two stages of two layers each."""
    problem = problem or tiny_problem()
    first, second = (node.id for node in problem.cluster.workers[:2])
    values: dict[str, object] = {
        "problem_digest": problem.digest,
        "objective": ObjectiveValue(name="tpot", value=12.5, unit="ms", direction="min"),
        "bound": Bound(value=12.5, gap=0.0),
        "solver": "exact",
        "plan": Plan(
            pipelines=(
                Pipeline(
                    stages=(
                        Stage(node=first, start=0, stop=2, quant="bf16"),
                        Stage(node=second, start=2, stop=4, quant="bf16"),
                    )
                ),
            )
        ),
        "prediction": Prediction(
            metrics=Metrics(mean_tpot_ms=12.5, mean_ttft_ms=1 / 3, completed=4),
            pipelines=(),
            cost_usd_per_hour={"rent": 0.4, "energy": 1e-7},
            quality=1.0,
            tier=0,
        ),
        "problem": problem,
    }
    return Manifest.model_validate(values | changes)
