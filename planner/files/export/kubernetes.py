"""Kubernetes: a StatefulSet and a Service for every node of the plan, running planner node.

Objects of https://kubernetes.io/docs/reference/generated/kubernetes-api/ (apps/v1, v1).
"""

from __future__ import annotations

import re

import planner
from planner.core.cluster import Node
from planner.files.export.exported import Export, Step, started
from planner.files.manifest import Manifest
from planner.files.yamltext import to_yaml

_PORT = 7431
_RESOURCES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "radeon": "amd.com/gpu"}
"""Extended resource of a vendor's device plugin, by a word in the device class."""
_IMAGE = "planner:" + planner.__version__
_DOCKERFILE = f"""\
FROM python:3.11-slim
RUN pip install --no-cache-dir 'planner[run]=={planner.__version__}'
USER 1000
ENTRYPOINT ["planner"]
"""


def export(manifest: Manifest) -> Export:
    """Manifests of all nodes in one file, the image, and where the keys go."""
    made, cluster = started("Kubernetes", manifest), manifest.problem.cluster
    made.warnings = [told for told in made.warnings if not told.startswith("standby")]
    names = dict.fromkeys([*manifest.plan.nodes, *(one.node for one in manifest.plan.standbys)])
    nodes = [cluster.node(name) for name in names]
    objects = [one for node in nodes for one in _objects(made, manifest, node)]
    made.files["nodes.yaml"] = "---\n".join(to_yaml(one) for one in objects)
    made.files["Dockerfile"] = _DOCKERFILE
    members = " ".join(f"--node {node.id}={_name(node.id)}:{_PORT}" for node in nodes)
    made.steps = [
        Step(
            "Build the image and push it where the cluster finds it.",
            (f"docker build -t {_IMAGE} .",),
        ),
        Step(
            "Make keys, with the names of the Services as addresses.",
            (f"planner node init keys {members}",),
        ),
        Step(
            "Give every node its own.",
            tuple(
                f"kubectl create secret generic {_name(node.id)}-keys --from-file=keys/{node.id}"
                for node in nodes
            ),
        ),
        Step(
            "Start the nodes.",
            (
                "kubectl apply -f nodes.yaml",
                *(f"kubectl rollout status statefulset/{_name(node.id)}" for node in nodes),
            ),
        ),
        Step(
            "Sign the plan and run it, from inside the cluster's network.",
            (
                "planner node sign manifest.yaml --authority keys",
                "planner run manifest.yaml --nodes keys/inventory.yaml",
            ),
        ),
    ]
    made.warn(
        "which machine a node becomes is up to the cluster: label machines "
        "planner/node=NAME, or change nodeSelector"
    )
    made.warn("the plan's links are the cluster's own; nothing limits or checks their speed")
    return made.whole()


def _name(node: str) -> str:
    """A DNS label (RFC 1123)."""
    label = re.sub("[^a-z0-9-]", "-", node.lower()).strip("-")
    return f"planner-{label}"[:52].rstrip("-")


def _objects(made: Export, manifest: Manifest, node: Node) -> list[dict[str, object]]:
    name = _name(node.id)
    labels = {"app.kubernetes.io/name": "planner", "planner/node": node.id}
    meta = {"name": name, "labels": labels}
    service: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "clusterIP": "None",
            "selector": labels,
            "ports": [{"name": "node", "port": _PORT, "targetPort": "node"}],
        },
    }
    spec = {
        "serviceName": name,
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "nodeSelector": {"planner/node": node.id},
                "terminationGracePeriodSeconds": 30,
                "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
                "containers": [_container(made, manifest, node)],
                "volumes": [
                    {"name": "keys", "secret": {"secretName": f"{name}-keys", "defaultMode": 0o440}}
                ],
            },
        },
        "volumeClaimTemplates": [_claim(manifest, node)],
    }
    return [
        service,
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec},
    ]


def _container(made: Export, manifest: Manifest, node: Node) -> dict[str, object]:
    kind = manifest.problem.cluster.device(node.id).device_class
    resource = next((name for word, name in _RESOURCES.items() if word in kind), None)
    device = "cuda" if resource else "cpu"
    limits: dict[str, object] = {resource: node.count} if resource else {}
    if resource is None:
        made.warn(f"no device plugin is known for {node.device} on {node.id}: it runs on the CPU")
    elif node.count > 1:
        made.warn(f"planner node uses one accelerator per stage; {node.id} has {node.count}")
    listen = f"0.0.0.0:{_PORT}"
    return {
        "name": "node",
        "image": _IMAGE,
        "args": [
            *("node", "--listen", listen, "--keys", "/keys", "--weights", "/weights"),
            *("--device", device),
        ],
        "ports": [{"name": "node", "containerPort": _PORT}],
        "readinessProbe": {"tcpSocket": {"port": "node"}, "periodSeconds": 5},
        "livenessProbe": {
            "tcpSocket": {"port": "node"},
            "periodSeconds": 20,
            "failureThreshold": 6,
        },
        "resources": {"limits": limits} if limits else {},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "keys", "mountPath": "/keys", "readOnly": True},
            {"name": "weights", "mountPath": "/weights"},
        ],
    }


def _claim(manifest: Manifest, node: Node) -> dict[str, object]:
    """Room for the node's weights twice: the old plan's and the new one's."""
    held = [
        stage.memory_bytes.get("weights", 0.0)
        for pipeline in manifest.prediction.pipelines
        for stage in pipeline.stages
        if stage.node == node.id
    ]
    size_gib = 10 + round(2 * sum(held) / 2**30)
    return {
        "metadata": {"name": "weights"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{size_gib}Gi"}},
        },
    }
