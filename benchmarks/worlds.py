"""Random clusters of consumer hardware in several regions, for the placement benchmarks."""

from __future__ import annotations

import random
from pathlib import Path

from planner.core.cluster import Churn, Cluster, Link, Node
from planner.core.problem import Problem
from planner.core.requirements import Objective, Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.files.catalogue import Catalogue
from planner.files.offers import card
from planner.files.scenario import load_scenario

ROOT = Path(__file__).parent.parent
DEVICES = ("rtx-4090", "rtx-3090")
UPLINKS = (2.5e6, 6e6, 12.5e6, 60e6)
CHURN = ("marketplace-interruptible", "cloud-spot-good-zone")


def world(
    nodes: int,
    seed: int,
    objective: Objective,
    users: int,
    model: str = "llama-3.3-70b",
    *,
    lost: bool = False,
) -> Problem:
    """The marketplace scenario on ``nodes`` random machines in 3 to 10 regions.

    Where nodes are ``lost``, all are rented: some leave every few hours, some a few times a day.
    """
    rng, fates = random.Random(f"{nodes}-{seed}"), random.Random(f"churn-{nodes}-{seed}")
    base = load_scenario(
        ROOT / "scenarios" / "marketplace.yaml", [], [f"model={model}", "alternatives=[]"]
    ).problem
    regions = [f"r{index}" for index in range(rng.randint(3, 10))]
    machines = [Node(id="gateway", region=regions[0])]
    for index in range(nodes):
        device = rng.choice(DEVICES)
        machines.append(
            Node(
                id=f"n{index:04}",
                device=device,
                region=rng.choice(regions),
                price=round(rng.uniform(0.8, 1.2) * (0.4 if device == "rtx-4090" else 0.165), 2),
                memory=rng.choice((4, 6, 8, 12)) * 2.0**30,
                uplink=rng.choice(UPLINKS),
                churn=fates.choice(CHURN) if lost else None,
                trust="rented" if lost else "own",
            )
        )
    links = []
    for a in regions:
        for b in regions:
            latency_s = rng.uniform(0.002, 0.01) if a == b else rng.uniform(0.02, 0.15)
            ends = {"src": f"region:{a}", "dst": f"region:{b}"}
            links.append(Link(**ends, one_way_latency=latency_s, bandwidth=125e6))
    known = Catalogue()
    churn = tuple(card(known, "churn", name, Churn) for name in CHURN) if lost else ()
    cluster = Cluster(
        churn=churn,
        devices=base.cluster.devices,
        nodes=tuple(machines),
        links=tuple(links),
        coordinator="gateway",
    )
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=users),
        prompt=Fixed(tokens=512),
        output=Fixed(tokens=200),
    )
    values = {
        "cluster": cluster,
        "workload": workload,
        "requirements": Requirements(objective=objective),
        "quants": base.quants[:1],
        "name": f"random-{nodes}-{seed}",
    }
    return Problem.model_validate(dict(base) | values)
