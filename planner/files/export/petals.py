"""Petals: a server for every stage in a private swarm.

Options of https://github.com/bigscience-workshop/petals, src/petals/cli/run_server.py.
"""

from __future__ import annotations

from planner.core.plan import Pipeline, Stage
from planner.files.export.exported import Export, Step, script, started
from planner.files.manifest import Manifest

_QUANTS: dict[str, tuple[str, ...]] = {
    "bf16": ("--quant_type", "none", "--torch_dtype", "bfloat16"),
    "fp16": ("--quant_type", "none", "--torch_dtype", "float16"),
    "fp32": ("--quant_type", "none", "--torch_dtype", "float32"),
    "int8": ("--quant_type", "int8"),
    "nf4": ("--quant_type", "nf4"),
}
_MODELS = ("llama", "mixtral", "falcon", "bloom")
_BOOTSTRAP_PORT, _PORT = 31337, 31330


def export(manifest: Manifest) -> Export:
    """A script that founds the swarm, and one per stage that joins it."""
    made, home = started("Petals", manifest), manifest.problem.cluster.coordinator
    made.files["swarm.sh"] = script(
        [f"Runs on {home} and prints the address of the swarm; ADDRESS is its public address."],
        [],
        [
            *("python", "-m", "petals.cli.run_dht", "--identity_path", "swarm.id"),
            *("--host_maddrs", f"/ip4/0.0.0.0/tcp/{_BOOTSTRAP_PORT}"),
            *("--announce_maddrs", f'"/ip4/$ADDRESS/tcp/{_BOOTSTRAP_PORT}"'),
        ],
    )
    made.steps = [
        Step("Install Petals on every node.", ("pip install petals",)),
        Step(f"Found the swarm on {home}; it prints PEER.", ("ADDRESS=... sh swarm.sh",)),
    ]
    for index, pipeline in enumerate(manifest.plan.pipelines):
        for stage in pipeline.stages:
            name = f"server-{stage.node}.sh"
            made.files[name] = _server(made, manifest, pipeline, stage)
        made.steps.append(
            Step(
                f"Replica {index}: start its servers. MODEL is the model's name or folder.",
                tuple(
                    f"MODEL=... PEER=... ADDRESS=... sh server-{node}.sh  # on {node}"
                    for node in pipeline.nodes
                ),
            )
        )
    _limits(made, manifest)
    return made.whole()


def _server(made: Export, manifest: Manifest, pipeline: Pipeline, stage: Stage) -> str:
    tokens, node = manifest.problem.tokens_per_request, manifest.problem.cluster.node(stage.node)
    command = [
        *("python", "-m", "petals.cli.run_server", '"$MODEL"'),
        *("--block_indices", f"{stage.start}:{stage.stop}"),
        *("--initial_peers", '"$PEER"', "--public_ip", '"$ADDRESS"', "--port", str(_PORT)),
        *("--inference_max_length", str(tokens)),
        *("--attn_cache_tokens", str(tokens * pipeline.max_num_seqs)),
        *("--identity_path", f"{stage.node}.id"),
    ]
    if stage.quant in _QUANTS:
        command += _QUANTS[stage.quant]
    else:
        made.warn(f"Petals does not compute in {stage.quant}; its default is used on {stage.node}")
    if node.count > 1:
        devices = [f"cuda:{number}" for number in range(node.count)]
        command += ["--tensor_parallel_devices", *devices]
    said = [f"Runs on {stage.node}: layers {stage.start} to {stage.stop - 1}."]
    return script(said, [], command)


def _limits(made: Export, manifest: Manifest) -> None:
    model = manifest.problem.model
    if model.model_type not in _MODELS:
        made.warn(f"Petals has no blocks for {model.model_type}; it knows {', '.join(_MODELS)}")
    made.warn("clients choose their way through the swarm; the order of hops is not fixed")
    made.warn("clients hold embeddings and output head; no server does")
    made.warn("the number of sequences at once is bounded by cache tokens alone")
