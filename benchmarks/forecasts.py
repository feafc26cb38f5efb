"""Forecasts of ``planner plan`` against what ``planner simulate`` measures of the same plan.

Plans every bundled scenario and a dozen drawn ones (open arrivals at 30 to 90 % of what the plan
can serve, closed loops, prefixes, pipelines that differ, churn, wide areas), and simulates each
plan under several seeds. Runs shorter than ``--requests`` are made that long, so that neither how
they begin and end nor the luck of a few requests decides; the forecast is made for the same run.

    python benchmarks/forecasts.py                              # everything, on stdout
    python benchmarks/forecasts.py --only campus-lan --each     # figures beside errors
    python benchmarks/forecasts.py --only homes open-30 --write  # these rows of docs/model.md
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pages import put

from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.files.scenario import load_scenario
from planner.plan.predict import metrics
from planner.plan.shares import shared
from planner.plan.solve import solve
from planner.sim.replicate import Replications, replicate

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "model.md"
NEEDS_PROBE = ("demo",)
"""Scenarios that name the probed host, which no benchmark carries."""
COLUMNS = {
    "mean_tpot_ms": "TPOT",
    "mean_ttft_ms": "TTFT",
    "p95_ttft_ms": "p95 TTFT",
    "p95_e2el_ms": "p95 E2E",
    "output_throughput": "tokens/s",
    "request_goodput": "goodput",
    "availability": "availability",
    "usd_per_million_output_tokens": "USD/M",
}
_MODELS = ("qwen3-8b", "qwen3-32b", "llama-3.3-70b")
_DEVICES = ("rtx-3090", "rtx-4090", "rtx-a6000", "rtx-4080", "rtx-4070")
_SHARES = {"open-30": 0.3, "open-50": 0.5, "open-70": 0.7, "open-90": 0.9}


@dataclass(frozen=True, slots=True)
class Scene:
    """A problem; with a share, under open arrivals at so much of what its plan can serve."""

    problem: Problem
    share: float | None = None


def bundled(name: str) -> Scene:
    """A scenario that comes with planner."""
    return Scene(load_scenario(ROOT / "scenarios" / f"{name}.yaml").problem)


def open_loop(name: str, share: float) -> Scene:
    """Replicas of a small model on two kinds of cards, or a pipeline of a larger one."""
    rng = random.Random(name)
    return _scene(name, share, model=rng.choice(_MODELS[:2]), nodes=_cards(rng, 4))


def closed_loop(name: str, users: int) -> Scene:
    """The same with users who wait for their answers."""
    rng = random.Random(name)
    return _scene(name, model=rng.choice(_MODELS), nodes=_cards(rng, 6), arrivals=_closed(users))


def prefixes(name: str) -> Scene:
    """Conversations of several turns on two cards under vLLM's rules."""
    nodes = [{"id": f"n{k}", "device": "l40s", "price": "0.80 USD/h"} for k in range(2)]
    sessions = {"mean_turns": 4, "think": "2 s", "max_tokens": 8192}
    changes: dict[str, Any] = {"model": "qwen3-32b", "engine": "vllm", "quants": ["int4-g128"]}
    return _scene(name, 0.5, nodes=nodes, sessions=sessions, **changes)


def unequal(name: str, share: float) -> Scene:
    """A fast replica and a slow one."""
    devices = ("rtx-4090", "rtx-3060")
    nodes = [{"id": f"n{k}", "device": one, "price": "0.30 USD/h"} for k, one in enumerate(devices)]
    return _scene(name, share, nodes=nodes, quants=["q4_k_m"])


def churning(name: str, share: float | None) -> Scene:
    """Rented cards of which each leaves a few times a day."""
    rng = random.Random(name)
    nodes = [one | {"churn": "marketplace-interruptible"} for one in _cards(rng, 4)]
    changes: dict[str, Any] = {} if share else {"arrivals": _closed(6)}
    return _scene(name, share, nodes=nodes, objective="goodput", **changes)


def wide(name: str, share: float | None) -> Scene:
    """Homes over wide-area links, with requests in several groups under way."""
    rng = random.Random(name)
    changes: dict[str, Any] = {} if share else {"arrivals": _closed(8)}
    more = {"micro_batches": 2, "network": {"default": "home-fibre"}}
    return _scene(name, share, model="qwen3-32b", nodes=_cards(rng, 4), **more, **changes)


SCENES = {
    **{
        path.stem: partial(bundled, path.stem)
        for path in sorted((ROOT / "scenarios").glob("*.yaml"))
        if path.stem not in NEEDS_PROBE
    },
    **{name: partial(open_loop, name, share) for name, share in _SHARES.items()},
    "closed-4": partial(closed_loop, "closed-4", 4),
    "closed-16": partial(closed_loop, "closed-16", 16),
    "prefixes-50": partial(prefixes, "prefixes-50"),
    "unequal-40": partial(unequal, "unequal-40", 0.4),
    "unequal-80": partial(unequal, "unequal-80", 0.8),
    "churn-closed": partial(churning, "churn-closed", None),
    "churn-50": partial(churning, "churn-50", 0.5),
    "wide-closed": partial(wide, "wide-closed", None),
    "wide-60": partial(wide, "wide-60", 0.6),
}


def _closed(users: int) -> dict[str, Any]:
    return {"kind": "closed", "concurrency": users}


def _cards(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Rented cards of two kinds."""
    devices = rng.sample(_DEVICES, 2)
    return [
        {
            "id": f"n{k}",
            "device": rng.choice(devices),
            "price": f"{rng.randint(15, 50) / 100} USD/h",
        }
        for k in range(count)
    ]


def _scene(
    name: str,
    share: float | None = None,
    *,
    nodes: Sequence[dict[str, Any]],
    model: str = "qwen3-8b",
    engine: str = "llama.cpp",
    quants: Sequence[str] = ("q4_k_m", "q3_k_m"),
    objective: str = "throughput",
    arrivals: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
    sessions: dict[str, Any] | None = None,
    seats: int = 4,
    micro_batches: int = 1,
) -> Scene:
    """A random scene, its lengths drawn, as a scenario file would have it."""
    rng = random.Random(f"lengths-{name}")
    workload = {
        "arrivals": arrivals or _closed(4 * seats),
        "prompt": {
            "kind": "lognormal",
            "median_tokens": rng.choice((100, 300, 600)),
            "sigma": rng.choice((0.5, 0.9)),
            "max_tokens": 2048,
        },
        "output": {
            "kind": "lognormal",
            "median_tokens": rng.choice((60, 120, 240)),
            "sigma": 0.7,
            "max_tokens": 1024,
        },
    }
    scenario = {
        "schema_version": "1.0",
        "name": name,
        "model": model,
        "engine": engine,
        "quants": list(quants),
        "coordinator": "gateway",
        "nodes": [{"id": "gateway"}, *({"trust": "rented"} | one for one in nodes)],
        "network": network or {"default": "lan-1g"},
        "workload": workload | ({"sessions": sessions} if sessions else {}),
        "objective": objective,
        "serving": {"max_num_seqs": seats, "micro_batches": micro_batches},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(json.dumps(scenario))
        return Scene(load_scenario(path).problem, share)


def planned(scene: Scene) -> tuple[Problem, Plan]:
    """The plan of a scene, and the problem with the load that it is to serve.

    Where that is a share of what the plan can serve, it is chosen for users who wait for answers,
    and what it can serve is what the forecast says of it under far more than that.
    """
    problem = scene.problem
    plan = solve(problem, explain=False).plan
    if scene.share is None:
        return problem, plan
    most = metrics(_arriving(problem, 1e6), plan).request_throughput or 0.0
    loaded = _arriving(problem, scene.share * most)
    return loaded, shared(loaded, plan)


def _arriving(problem: Problem, rate: float) -> Problem:
    arrivals = {"kind": "poisson", "rate": rate}
    values = problem.workload.model_dump(by_alias=True) | {"arrivals": arrivals}
    workload = type(problem.workload).model_validate(values)
    return Problem.model_validate(dict(problem) | {"workload": workload})


@dataclass(frozen=True, slots=True)
class Compared:
    """The forecast for a plan and its simulations."""

    name: str
    forecast: Metrics
    simulated: Replications

    def cells(self) -> Iterator[str]:
        """By column how far off the forecast is (%), and how sure the simulation."""
        for name in COLUMNS:
            said, seen = getattr(self.forecast, name), getattr(self.simulated.metrics, name)
            if said is None or seen is None or not seen:
                yield "" if said == seen else f"{said} for {seen}"
                continue
            low, high = self.simulated.confidence[name]
            sure = "" if low <= said <= high else "**"
            yield f"{sure}{100 * (said / seen - 1):+.1f}{sure} ± {50 * (high - low) / seen:.1f}"

    def figures(self) -> Iterator[str]:
        """Each figure: forecast, simulated and the interval."""
        for name in COLUMNS:
            said, seen = getattr(self.forecast, name), getattr(self.simulated.metrics, name)
            low, high = self.simulated.confidence.get(name, (0.0, 0.0))
            if said is not None and seen:
                yield (
                    f"  {name:30} {said:12.4f} {seen:12.4f} [{low:.4f}, {high:.4f}]"
                    f" {said / seen - 1:+.1%}"
                )


def compared(name: str, requests: int, seeds: int) -> Compared:
    """One scene, planned, forecast and simulated."""
    problem, plan = planned(SCENES[name]())
    workload = problem.workload
    workload = workload.model_copy(update={"requests": max(requests, workload.requests)})
    problem = Problem.model_validate(dict(problem) | {"workload": workload})
    return Compared(name, metrics(problem, plan), replicate(problem, plan, range(1, seeds + 1)))


def main() -> None:
    """Prints a row for each scene, and puts it into the page if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=SCENES, default=list(SCENES))
    parser.add_argument("--requests", type=int, default=1000, help="of each run, at least")
    parser.add_argument("--seeds", type=int, default=8, help="simulations of each plan")
    parser.add_argument("--each", action="store_true", help="print every figure")
    parser.add_argument("--write", action="store_true", help="put the rows into docs/model.md")
    given = parser.parse_args()
    head = f"| plan | {' | '.join(COLUMNS.values())} |"
    lines = [head, "|---|" + "--:|" * len(COLUMNS)]
    print("\n".join(lines), flush=True)
    for name in given.only:
        began_s = time.process_time()
        found = compared(name, given.requests, given.seeds)
        lines.append(f"| {name} | {' | '.join(found.cells())} |")
        print(lines[-1], flush=True)
        if given.write:
            put(PAGE, "forecasts", lines)
        if given.each:
            print("\n".join(found.figures()), flush=True)
            print(f"  {time.process_time() - began_s:.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
