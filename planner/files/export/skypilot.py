"""SkyPilot: a task for every rented node of the plan, which then serves as a planner node.

Keys of https://docs.skypilot.co/en/latest/reference/yaml-spec.html; accelerators as
``sky show-gpus`` names them.
"""

from __future__ import annotations

import re

import planner
from planner.core.cluster import Node
from planner.files.export.exported import Export, Step, started
from planner.files.manifest import Manifest
from planner.files.yamltext import to_yaml

_ACCELERATORS = {
    "a10": "A10",
    "a10g": "A10G",
    "a100-pcie-40gb": "A100",
    "a100-sxm-40gb": "A100",
    "a100-pcie-80gb": "A100-80GB",
    "a100-sxm-80gb": "A100-80GB-SXM",
    "a40": "A40",
    "b200-sxm": "B200",
    "b300-sxm": "B300",
    "gh200-96gb": "GH200",
    "h100-nvl-94gb": "H100-NVL",
    "h100-pcie-80gb": "H100",
    "h100-sxm-80gb": "H100-SXM",
    "h200-sxm-141gb": "H200-SXM",
    "l4": "L4",
    "l40": "L40",
    "l40s": "L40S",
    "mi300x": "MI300X",
    "p40": "P40",
    "p100-pcie-16gb": "P100",
    "rtx-3070": "RTX3070",
    "rtx-3080": "RTX3080",
    "rtx-3090": "RTX3090",
    "rtx-4000-ada": "RTX4000-Ada",
    "rtx-4090": "RTX4090",
    "rtx-5090": "RTX5090",
    "rtx-6000-ada": "RTX6000-Ada",
    "rtx-a4000": "RTXA4000",
    "rtx-a5000": "RTXA5000",
    "rtx-a6000": "RTXA6000",
    "t4": "T4",
    "v100-pcie-16gb": "V100",
    "v100-sxm-16gb": "V100",
    "v100-pcie-32gb": "V100-32GB",
    "v100-sxm-32gb": "V100-32GB",
}
_CLOUD_REGION = re.compile(r"[a-z]+(-[a-z]+)+-?\d[a-z0-9-]*")
"""What clouds call regions, such as us-east-1 or europe-west4; not ``eu``."""
_PORT = 7431
_DISK_GB = 100


def export(manifest: Manifest) -> Export:
    """A task per rented node; own nodes need none."""
    made, cluster = started("SkyPilot", manifest), manifest.problem.cluster
    used = [*manifest.plan.nodes, *(one.node for one in manifest.plan.standbys)]
    made.warnings = [told for told in made.warnings if not told.startswith("standby")]
    rented: list[Node] = []
    own: list[Node] = []
    for name in dict.fromkeys(used):
        node = cluster.node(name)
        (rented if node.usd_per_hour or node.trust != "own" else own).append(node)
    for node in rented:
        made.files[f"{node.id}.yaml"] = to_yaml(_task(made, manifest, node))
    if own:
        names = ", ".join(node.id for node in own)
        made.warn(f"{names} is your own: start planner node there by hand")
    made.steps = [
        Step(
            "Make keys; addresses follow once the nodes are up.",
            ("planner node init keys " + _members(rented or own),),
        ),
        Step(
            "Rent the nodes.",
            tuple(f"sky launch -y -c {_cluster(node.id)} {node.id}.yaml" for node in rented),
        ),
        Step(
            "Put their addresses into keys/inventory.yaml.",
            tuple(f"sky status --ip {_cluster(node.id)}" for node in rented),
        ),
        Step(
            "Sign the plan and run it.",
            (
                "planner node sign manifest.yaml --authority keys",
                "planner run manifest.yaml --nodes keys/inventory.yaml",
            ),
        ),
        Step("Give them back.", tuple(f"sky down -y {_cluster(node.id)}" for node in rented)),
    ]
    return made.whole()


def _members(nodes: list[Node]) -> str:
    return " ".join(f"--node {node.id}=127.0.0.1:{_PORT}" for node in nodes)


def _cluster(node: str) -> str:
    """A name SkyPilot takes: letters, digits, dots and dashes."""
    return f"planner-{re.sub('[^a-zA-Z0-9-]', '-', node)}"


def _task(made: Export, manifest: Manifest, node: Node) -> dict[str, object]:
    resources: dict[str, object] = {"ports": [_PORT], "disk_size": _disk_gb(manifest)}
    accelerator = _ACCELERATORS.get(node.device or "")
    if accelerator is None:
        made.warn(f"SkyPilot has no name for {node.device}; fill in accelerators of {node.id}")
    else:
        resources["accelerators"] = f"{accelerator}:{node.count}"
    if _CLOUD_REGION.fullmatch(node.region):
        resources["infra"] = f"*/{node.region}"
    else:
        made.warn(
            f"{node.region} names no region of a cloud: without infra, SkyPilot takes the cheapest "
            f"place for {node.id}"
        )
    resources["use_spot"] = node.churn is not None
    if node.usd_per_hour:
        resources["max_hourly_cost"] = round(1.25 * node.usd_per_hour, 4)
        made.warn("max_hourly_cost is a quarter above the plan's price; dearer offers are refused")
    device = "cuda" if accelerator is not None else "cpu"
    return {
        "name": _cluster(node.id),
        "resources": resources,
        "file_mounts": {"~/keys": f"./keys/{node.id}"},
        "setup": f"pip install 'planner[run]=={planner.__version__}'",
        "run": f"planner node --listen 0.0.0.0:{_PORT} --keys ~/keys --weights ~/weights "
        f"--device {device}",
    }


def _disk_gb(manifest: Manifest) -> int:
    """Room for the largest share of the weights twice, and for the software."""
    largest = (
        max(
            stage.memory_bytes.get("weights", 0.0)
            for pipeline in manifest.prediction.pipelines or ()
            for stage in pipeline.stages
        )
        if manifest.prediction.pipelines
        else 0.0
    )
    return _DISK_GB + round(2 * largest / 1e9)
