"""vLLM: a Ray cluster for every replica, its layers by VLLM_PP_LAYER_PARTITION.

Options of https://docs.vllm.ai/en/latest/cli/serve.html; the partition is read in
``vllm.distributed.utils.get_pp_indices``.
"""

from __future__ import annotations

from planner.core.plan import Pipeline
from planner.files.export.exported import Export, Step, script, started
from planner.files.manifest import Manifest

_FLAGS: dict[str, tuple[str, ...]] = {
    "bf16": ("--dtype", "bfloat16"),
    "fp16": ("--dtype", "float16"),
    "fp32": ("--dtype", "float32"),
    "fp8": ("--quantization", "fp8"),
    "fp8-kv8": ("--quantization", "fp8", "--kv-cache-dtype", "fp8"),
    "w8a16-int8": ("--quantization", "int8_per_channel_weight_only"),
}
"""Schemes that vLLM makes of the published weights as it loads them."""

_CHECKPOINTS = {
    "int4-g128": "AWQ, GPTQ or compressed-tensors with groups of 128",
    "w8a8-int8": "compressed-tensors W8A8",
    "int8": "compressed-tensors W8A16",
    "mxfp4": "MXFP4",
    "nvfp4": "NVFP4",
}
"""Schemes that come with the checkpoint, which vLLM recognises by itself."""

_PORT = 6379


def export(manifest: Manifest) -> Export:
    """For every replica: a script per node that joins Ray, and the one that serves."""
    made = started("vLLM", manifest)
    made.steps.append(
        Step("Install vLLM and Ray on every node.", ("pip install vllm 'ray[default]'",))
    )
    for index, pipeline in enumerate(manifest.plan.pipelines):
        _replica(made, manifest, index, pipeline)
    if any(len(pipeline.stages) > 1 for pipeline in manifest.plan.pipelines):
        made.warn(
            "Ray decides which node gets which stage: see in vLLM's log that the ranks follow the "
            "order above, and start the nodes in it"
        )
    made.warn("admission is vLLM's own: --max-num-seqs bounds it, chunks of prompts join decode")
    return made.whole()


def _replica(made: Export, manifest: Manifest, index: int, pipeline: Pipeline) -> None:
    cluster = manifest.problem.cluster
    counts = [cluster.node(node).count for node in pipeline.nodes]
    if len(set(counts)) > 1:
        made.warn(
            f"replica {index}: vLLM wants as many accelerators on every node; the plan has "
            f"{', '.join(map(str, counts))}, so the fewest are used everywhere"
        )
    folder, several = f"replica-{index}", len(pipeline.stages) > 1
    head, *others = pipeline.nodes
    if several:
        for number, node in enumerate(pipeline.nodes):
            made.files[f"{folder}/ray-{node}.sh"] = _ray(head, node, number == 0, min(counts))
        made.steps.append(
            Step(
                f"Replica {index}: join Ray, {head} first. HEAD is its address, ADDRESS each "
                "node's own.",
                (
                    f"ADDRESS=... sh {folder}/ray-{head}.sh  # on {head}",
                    *(f"HEAD=... ADDRESS=... sh {folder}/ray-{n}.sh  # on {n}" for n in others),
                ),
            )
        )
    made.files[f"{folder}/serve.sh"] = _serve(made, manifest, pipeline, min(counts))
    made.steps.append(
        Step(
            f"Replica {index}: serve from {head}. MODEL is the checkpoint, ADDRESS the node's own.",
            (f"MODEL=... ADDRESS=... sh {folder}/serve.sh  # on {head}",),
        )
    )


def _ray(head: str, node: str, first: bool, accelerators: int) -> str:
    where = ["--head", f"--port={_PORT}"] if first else [f'"--address=$HEAD:{_PORT}"']
    said = [f"Runs on {node}; ADDRESS is its address" + ("." if first else f", HEAD {head}'s.")]
    command = ["ray", "start", *where, '"--node-ip-address=$ADDRESS"']
    lines = ['export VLLM_HOST_IP="$ADDRESS"']
    return script(said, lines, [*command, f"--num-gpus={accelerators}"])


def _serve(made: Export, manifest: Manifest, pipeline: Pipeline, accelerators: int) -> str:
    several = len(pipeline.stages) > 1
    layers = ",".join(str(len(stage.layers)) for stage in pipeline.stages)
    command = [
        *("vllm", "serve", '"$MODEL"'),
        *("--distributed-executor-backend", "ray" if several else "mp"),
        *("--pipeline-parallel-size", str(len(pipeline.stages))),
        *("--tensor-parallel-size", str(accelerators)),
        *("--max-model-len", str(manifest.problem.tokens_per_request)),
        *("--max-num-seqs", str(pipeline.max_num_seqs)),
        *("--gpu-memory-utilization", f"{manifest.problem.engine.memory_fraction:g}"),
        *_quantization(made, pipeline),
    ]
    lines = ['export VLLM_HOST_IP="$ADDRESS"']
    if several:
        lines.append(f"export VLLM_PP_LAYER_PARTITION={layers}")
    said = [f"Runs on {pipeline.nodes[0]}: {' -> '.join(pipeline.nodes)}, layers {layers}."]
    return script(said, lines, command)


def _quantization(made: Export, pipeline: Pipeline) -> tuple[str, ...]:
    """Flags of the scheme; a warning where the checkpoint has to bring it, or nothing can."""
    quants = list(dict.fromkeys(stage.quant for stage in pipeline.stages))
    if len(quants) > 1:
        made.warn(f"vLLM has one quantization for all stages; the plan has {', '.join(quants)}")
    quant = quants[0]
    if quant in _FLAGS:
        return _FLAGS[quant]
    if quant in _CHECKPOINTS:
        made.warn(f"{quant} comes with the checkpoint: MODEL has to be {_CHECKPOINTS[quant]}")
    else:
        made.warn(f"vLLM does not compute in {quant}; MODEL has to be in a scheme of its own")
    return ()
