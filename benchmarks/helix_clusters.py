"""Helix's published clusters and placements, read from the authors' files.

The folder holds ``NAME.ini`` (nodes, and lines with bandwidth and latency) and
``NAME_llama70b_published_placement.ini`` (layers by node). In these files ``mbps`` is 10**6 bytes
per second. Lines go both ways; source and sink exchange token ids, nodes exchange activations.
"""

from __future__ import annotations

import itertools
import random
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from planner.plan.flow import Array, FlowProblem, Windows, windows_of

NAMES = ("single24", "geo24", "het42")
UNITS = {"kbps": 1e3, "mbps": 1e6, "gbps": 1e9, "MilliSec": 1e-3, "Sec": 1.0}
RATES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("helix_rates.yaml").read_text())
ENDS = ("source", "sink")


@dataclass(frozen=True, slots=True)
class HelixCluster:
    """Machines and the lines between them; index -2 is the source, -1 the sink."""

    name: str
    machines: tuple[str, ...]
    """Type of each node."""
    bytes_per_s: Array
    """[src, dst], source and sink last; 0 where there is no line."""
    latency_s: Array

    @property
    def objective(self) -> FlowProblem:
        """The authors' objective on this cluster."""
        by_machine, count = RATES["machines"][self.name], len(self.machines)
        width = 1 + max(len(row) for row in by_machine.values())
        rates = np.zeros((count, width))
        for node, machine in enumerate(self.machines):
            rates[node, 1 : 1 + len(by_machine[machine])] = by_machine[machine]
        return FlowProblem(
            layers=RATES["layers"],
            rates=rates,
            enter=self.bytes_per_s[-2, :count] / RATES["token_bytes"],
            leave=self.bytes_per_s[:count, -1] / RATES["token_bytes"],
            between=self.bytes_per_s[:count, :count] / RATES["activation_bytes"],
        )


def read_cluster(folder: Path, name: str) -> HelixCluster:
    """One of the authors' clusters; raises FileNotFoundError where the folder lacks it."""
    given = _parsed(folder / f"{name}.ini")
    count = int(given["NodeNames"]["total_compute_nodes"])
    machines = tuple(given[f"ComputeNode-{node}"]["type"] for node in range(count))
    rate, latency = np.zeros((count + 2, count + 2)), np.zeros((count + 2, count + 2))
    for section in given.sections():
        if not section.startswith("Link-"):
            continue
        src, dst = (_index(end) for end in section.split("-")[1:])
        for table, key in ((rate, "bandwidth"), (latency, "latency")):
            table[src, dst] = _quantity(given[section][key])
            if src >= 0 and dst >= 0:
                table[dst, src] = table[src, dst]
    return HelixCluster(name, machines, rate, latency)


def grown(cluster: HelixCluster, nodes: int, regions: int, seed: int) -> HelixCluster:
    """A cluster of the same mix of machines, in regions with about 10 MB/s between them."""
    rng = random.Random(f"{nodes}-{regions}-{seed}")
    machines = tuple(itertools.islice(itertools.cycle(cluster.machines), nodes))
    where = [rng.randrange(regions) for _ in machines]
    rate = np.full((nodes + 2, nodes + 2), 1.25e9)
    for src, dst in itertools.combinations(range(nodes), 2):
        if where[src] != where[dst]:
            rate[src, dst] = rate[dst, src] = rng.uniform(8e6, 15e6)
    return HelixCluster(cluster.name, machines, rate, np.zeros_like(rate))


def read_placement(folder: Path, cluster: HelixCluster) -> Windows:
    """The authors' published placement of Llama-2-70B."""
    given = _parsed(folder / f"{cluster.name}_llama70b_published_placement.ini")
    offset, windows = int(given["Settings"]["offset"]), [(0, 0)] * len(cluster.machines)
    for node, text in given["Solution"].items():
        held = [int(layer) for layer in text.strip("[] ").split(",") if layer.strip()]
        if held:
            windows[int(node.rsplit("_", 1)[1]) - offset] = (min(held), max(held) + 1)
    return windows_of(windows)


def _parsed(path: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_string(path.read_text())
    return parser


def _index(end: str) -> int:
    return ENDS.index(end) - 2 if end in ENDS else int(end)


def _quantity(text: str) -> float:
    number, unit = text.split("*")
    return float(number) * UNITS[unit.strip()]
