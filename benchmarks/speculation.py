"""Speculation over imitated wide-area links: predicted against measured, on a probed machine.

Three stages 20 ms apart, and a draft model at the coordinator that has the first layers of the
model, whose other layers were made to say little, so that the draft is often right. For each number
of users and of checks in flight it prints time per token, predicted with the acceptance that the
run itself showed and with the speeds that its hosts were found to reach. Profiles and rows are kept
in the folder, so it can be done in pieces:

    python -m benchmarks.speculation build/speculation --users 1 --checks 0 1 4
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from benchmarks.kept import Row, demo, keep, kept
from planner.core.cluster import Link
from planner.core.drift import as_found
from planner.core.metrics import summarise
from planner.core.model import ModelSpec
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem, Serving
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Fixed
from planner.plan.predict import predict
from planner.report.drafts import draft_findings
from planner.report.terms import draft_terms
from planner.run.checkpoint import EMBEDDING
from planner.run.execute import execute
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup

NAMES = ("home", "hub", "cabin", "den")
LATENCY_S, BYTES_PER_S = 20e-3, 12.5e6
DRAFT_TOKENS, PLANNED = 4, 0.7
PROMPT, OUTPUT, REQUESTS = 32, 96, 4
LAYERS, DRAFT_LAYERS, WHISPER = 12, 3, 0.04
"""What the layers that the draft lacks add, as a share of what they would."""
BOUND = 0.15


def spec(base: ModelSpec, layers: int) -> ModelSpec:
    """A narrow model: over such links it is not computing that takes the time."""
    shape = {
        "id": f"narrow-{layers}",
        "hidden_size": 384,
        "num_hidden_layers": layers,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 1152,
        "vocab_size": 2048,
    }
    return ModelSpec.model_validate(base.model_dump() | shape)


def whisper(folder: Path) -> None:
    """Has the layers that the draft lacks add little to what passes through them."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(str(file))
    assert EMBEDDING in tensors
    for name, values in tensors.items():
        late = name.startswith("model.layers.") and int(name.split(".")[2]) >= DRAFT_LAYERS
        if late and name.endswith(("o_proj.weight", "down_proj.weight")):
            values.mul_(WHISPER)
    save_file(tensors, str(file), metadata={"format": "pt"})


def checkpoints(folder: Path, model: ModelSpec, draft: ModelSpec) -> tuple[Path, Path]:
    """Both models; a seed gives layers of one name and shape the same weights."""
    done = folder / "model" / "config.json"
    if not done.exists():
        make_checkpoint(folder / "made", model)
        whisper(folder / "made")
        (folder / "made").rename(folder / "model")
    return folder / "model", make_checkpoint(folder / "draft", draft)


def world(base: Problem, users: int, checks: int, acceptance: float = PLANNED) -> Problem:
    """The demo's devices, 20 ms and 100 Mbit/s apart; no checks in flight for no speculation."""
    hub = base.cluster.node("hub")
    nodes = tuple(hub.model_copy(update={"id": name, "memory_bytes": None}) for name in NAMES)
    far = {"one_way_latency_s": LATENCY_S, "bytes_per_s": BYTES_PER_S}
    links = tuple(Link(src=a, dst=b, **far) for a in NAMES for b in NAMES if a != b)
    cluster = base.cluster.model_copy(
        update={"nodes": nodes, "links": links, "coordinator": "home"}
    )
    said = Speculation(
        draft_tokens=DRAFT_TOKENS, acceptance=acceptance, checks_in_flight=max(1, checks)
    )
    changes = {
        "cluster": cluster,
        "model": spec(base.model, LAYERS),
        "draft": spec(base.model, DRAFT_LAYERS),
        "serving": Serving(max_num_seqs=users, speculation=said if checks else None),
        "workload": base.workload.model_copy(
            update={
                "arrivals": Closed(kind="closed", concurrency=users),
                "prompt": Fixed(tokens=PROMPT),
                "output": Fixed(tokens=OUTPUT),
                "requests": max(REQUESTS, users),
            }
        ),
    }
    return Problem.model_validate(base.model_copy(update=changes).model_dump())


def plan(problem: Problem, users: int) -> Plan:
    """A third of the layers on each node but the coordinator."""
    ends = [LAYERS * index // 3 for index in range(4)]
    quant = problem.quants[0].id
    stages = tuple(
        Stage(node=NAMES[1 + i], start=ends[i], stop=ends[i + 1], quant=quant) for i in range(3)
    )
    return Plan(pipelines=(Pipeline(stages=stages, max_num_seqs=users),))


def measure(folder: Path, users: int, checks: int) -> Row:
    """One run beside its prediction."""
    base = demo(folder)
    problem = world(base, users, checks)
    assert problem.draft is not None
    chain = plan(problem, users)
    model, draft = checkpoints(folder, problem.model, problem.draft)
    requests = problem.workload.sample(0)
    run = execute(Setup(problem, chain, model, threads=1, gauge=True, draft=draft), requests)
    measured = summarise(run.records).mean_tpot_ms
    found = draft_findings(problem, run.drafts)
    seen = world(base, users, checks, found.acceptance) if found else problem
    predicted = predict(as_found(seen, run.speeds, run.paces), chain).metrics.mean_tpot_ms
    assert measured is not None
    assert predicted is not None
    drafted = {
        term.phase: [1e3 * term.predicted_s, 1e3 * term.measured_s]
        for term in draft_terms(as_found(problem, run.speeds, run.paces), run)
    }
    return {
        "users": users,
        "checks": checks,
        "acceptance": found.acceptance if found else None,
        "tokens": found.tokens if found else 1.0,
        "predicted_ms": predicted,
        "measured_ms": measured,
        "draft_ms": drafted,
    }


def show(folder: Path) -> int:
    """Prints every configuration in the median of its runs; how many break the bound."""
    rows, broken = kept(folder / "rows.jsonl"), 0
    print("users checks  right  predicted  measured   error  times one check: predicted, measured")
    middle: dict[tuple[int, int], tuple[float, float]] = {}
    for key in sorted({(row["users"], row["checks"]) for row in rows}):
        mine = [row for row in rows if (row["users"], row["checks"]) == key]
        predicted, measured = (
            statistics.median(row[name] for row in mine) for name in ("predicted_ms", "measured_ms")
        )
        middle[key] = predicted, measured
        right = statistics.median(row["acceptance"] or 0.0 for row in mine)
        error = statistics.median(row["predicted_ms"] / row["measured_ms"] - 1 for row in mine)
        broken += abs(error) > BOUND
        one = middle.get((key[0], 1))
        gain = f"{one[0] / predicted:.2f} {one[1] / measured:.2f}" if one else ""
        print(f"{key[0]:>5} {key[1]:>6} {right:>6.1%} {predicted:>7.1f} ms {measured:>6.1f} ms "
              f"{error:>+7.1%}  {gain}")  # fmt: skip
    return broken


def main() -> int:
    """Measure what is asked for, then print what is kept; 1 where the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="keeps profiles, models and every run")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--checks", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--runs", type=int, default=1, help="0 prints what is there")
    options = parser.parse_args()
    for _ in range(options.runs):
        for users in options.users:
            for checks in options.checks:
                row = measure(options.folder, users, checks)
                keep(options.folder / "rows.jsonl", row)
                print(row, flush=True)
    return 1 if show(options.folder) else 0


if __name__ == "__main__":
    raise SystemExit(main())
