"""A Ray cluster of three nodes on this host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

NAMES = ("w0", "w1", "w2")


@dataclass
class RayCluster:
    """Nodes by the name in their label; one without a name is the head."""

    cluster: Any
    nodes: dict[str, Any] = field(default_factory=dict)

    def remove(self, name: str) -> None:
        """Takes a node away with all that runs on it."""
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Three nodes of a core each, named like the nodes of a plan, and this process connected."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "resources": {"planner:w0": 1}},
    )
    made = RayCluster(cluster, {"w0": cluster.head_node})
    for name in NAMES[1:]:
        made.nodes[name] = cluster.add_node(num_cpus=1, resources={f"planner:{name}": 1})
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield made
    finally:
        ray.shutdown()
        cluster.shutdown()
