"""llama.cpp: an rpc-server on every node, and a llama-server that splits the layers among them.

Options of https://github.com/ggml-org/llama.cpp/blob/master/tools/rpc/README.md and
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.
"""

from __future__ import annotations

from planner.core.plan import Pipeline
from planner.files.export.exported import Export, Step, script, started
from planner.files.manifest import Manifest

_PORT = 50052
_EIGHT_BITS = 8


def export(manifest: Manifest) -> Export:
    """A script per node, and one per replica that serves."""
    made = started("llama.cpp", manifest)
    made.steps.append(
        Step(
            "Build llama.cpp on every node with its backend and RPC.",
            (
                "cmake -B build -DGGML_RPC=ON -DGGML_CUDA=ON  # or another backend",
                "cmake --build build --config Release",
            ),
        )
    )
    for index, pipeline in enumerate(manifest.plan.pipelines):
        _replica(made, manifest, index, pipeline)
    made.warn(
        "rpc-server neither encrypts nor authenticates: keep it in a private network or a tunnel"
    )
    quants = {stage.quant for pipeline in manifest.plan.pipelines for stage in pipeline.stages}
    made.warn(f"the weights come from the GGUF file; the plan asks for {', '.join(sorted(quants))}")
    made.warn(
        "every hop goes through llama-server: activations come back to it between stages, so "
        "keep it near the nodes"
    )
    return made.whole()


def _replica(made: Export, manifest: Manifest, index: int, pipeline: Pipeline) -> None:
    folder = f"replica-{index}"
    for node in pipeline.nodes:
        made.files[f"{folder}/rpc-{node}.sh"] = script(
            [
                f"Runs on {node}; ADDRESS is its address in the private network.",
                "Named ggml-rpc-server in builds of 2026, rpc-server before.",
            ],
            ['RPC_SERVER="${RPC_SERVER:-ggml-rpc-server}"'],
            ['"$RPC_SERVER"', "--host", '"$ADDRESS"', "--port", str(_PORT), "--cache"],
        )
    hosts = " ".join(f"HOST_{number}=..." for number in range(len(pipeline.nodes)))
    told = ", ".join(f"HOST_{number} is {node}" for number, node in enumerate(pipeline.nodes))
    made.files[f"{folder}/serve.sh"] = _serve(manifest, pipeline, told)
    made.steps += [
        Step(
            f"Replica {index}: start the servers.",
            tuple(f"ADDRESS=... sh {folder}/rpc-{n}.sh  # on {n}" for n in pipeline.nodes),
        ),
        Step(
            f"Replica {index}: serve from a host near them. {told}; MODEL is the GGUF file.",
            (f"MODEL=... {hosts} sh {folder}/serve.sh",),
        ),
    ]


def _serve(manifest: Manifest, pipeline: Pipeline, told: str) -> str:
    """The command of a replica; sequences share the context, so it is all of theirs together."""
    shares, devices = [], 0
    for number, stage in enumerate(pipeline.stages):
        count = manifest.problem.cluster.node(stage.node).count
        held = len(stage.layers) + (number == len(pipeline.stages) - 1)
        shares += [held // count + (place < held % count) for place in range(count)]
        devices += count
    servers = ",".join(f"$HOST_{number}:{_PORT}" for number in range(len(pipeline.stages)))
    seats = pipeline.max_num_seqs
    command = [
        *("llama-server", "--model", '"$MODEL"', "--rpc", f'"{servers}"'),
        *("--device", ",".join(f"RPC{number}" for number in range(devices))),
        *("--split-mode", "layer", "--tensor-split", ",".join(map(str, shares))),
        *("--n-gpu-layers", "999"),
        *("--ctx-size", str(manifest.problem.tokens_per_request * seats)),
        *("--parallel", str(seats)),
    ]
    if all(manifest.problem.quant(one.quant).kv_bits <= _EIGHT_BITS for one in pipeline.stages):
        command += ["--cache-type-k", "q8_0", "--cache-type-v", "q8_0"]
    said = [told + ".", "The output head counts as one more layer, held by the last stage."]
    return script(said, [], command)
