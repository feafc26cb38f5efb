"""Export: a plan as the launch scripts of vLLM and llama.cpp, and what those cannot express.

Flags are those of https://docs.vllm.ai/en/latest/cli/serve.html and of
https://github.com/ggml-org/llama.cpp/blob/master/tools/rpc/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.plan import Pipeline
from planner.files.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Export:
    """Files by name, and what of the plan the engine cannot express."""

    files: dict[str, str]
    warnings: tuple[str, ...]


def vllm(manifest: Manifest) -> Export:
    """One launch script per replica, on a Ray cluster of its own."""
    files = {}
    warnings = _left_out(manifest)
    for index, pipeline in enumerate(manifest.plan.pipelines):
        counts = [manifest.problem.cluster.node(node).count for node in pipeline.nodes]
        if len(set(counts)) > 1:
            warnings.append(
                f"replica {index}: vLLM wants as many accelerators on every node; the plan has "
                f"{', '.join(map(str, counts))}, so the fewest are used everywhere"
            )
        tokens = manifest.problem.tokens_per_request
        files[f"replica-{index}.sh"] = _vllm_script(pipeline, min(counts), tokens)
    warnings.append("Ray chooses which node gets which stage; check the order in vLLM's log")
    warnings.append("no quantization flag is set: vLLM takes it from the checkpoint you serve")
    return _with_readme("vLLM", files, warnings)


def _vllm_script(pipeline: Pipeline, accelerators: int, tokens: int) -> str:
    layers = ",".join(str(len(stage.layers)) for stage in pipeline.stages)
    head, *others = pipeline.nodes
    return "\n".join(
        [
            "#!/bin/sh",
            "# Set MODEL to the checkpoint and HEAD to the address of the first node.",
            f"# 1. on {head}:",
            "#      ray start --head --port=6379",
            *(f"#    on {node}:\n#      ray start --address=$HEAD:6379" for node in others),
            f"# 2. on {head}, this script.",
            "set -eu",
            f"export VLLM_PP_LAYER_PARTITION={layers}",
            'exec vllm serve "$MODEL" \\',
            "  --distributed-executor-backend ray \\",
            f"  --pipeline-parallel-size {len(pipeline.stages)} \\",
            f"  --tensor-parallel-size {accelerators} \\",
            f"  --max-model-len {tokens} \\",
            f"  --max-num-seqs {pipeline.max_num_seqs}",
            "",
        ]
    )


def llama_cpp(manifest: Manifest) -> Export:
    """One launch script per replica; every stage is an rpc-server."""
    files = {
        f"replica-{index}.sh": _llama_script(pipeline, manifest.problem.tokens_per_request)
        for index, pipeline in enumerate(manifest.plan.pipelines)
    }
    warnings = _left_out(manifest)
    warnings.append("rpc-server neither encrypts nor authenticates; keep it in a private network")
    quants = {stage.quant for pipeline in manifest.plan.pipelines for stage in pipeline.stages}
    warnings.append(
        f"the weights come from the GGUF file; the plan asks for {', '.join(sorted(quants))}"
    )
    nodes = [node for pipeline in manifest.plan.pipelines for node in pipeline.nodes]
    several = [node for node in nodes if manifest.problem.cluster.node(node).count > 1]
    if several:
        warnings.append(
            f"{', '.join(several)} offers every accelerator as a device of its own; "
            "split its share of --tensor-split among them"
        )
    return _with_readme("llama.cpp", files, warnings)


def _llama_script(pipeline: Pipeline, tokens: int) -> str:
    """The output head counts as one more layer, held by the last stage.

    Sequences share the context, so it is as long as all of them together.
    """
    shares = [len(stage.layers) for stage in pipeline.stages]
    shares[-1] += 1
    names = [f"HOST_{index}" for index in range(len(shares))]
    servers = ",".join(f"${name}:50052" for name in names)
    return "\n".join(
        [
            "#!/bin/sh",
            "# Set MODEL to the GGUF file and HOST_0, HOST_1, ... to the addresses of the nodes.",
            "# 1. on every node: rpc-server --host ADDRESS --port 50052",
            "#    (ggml-rpc-server in newer builds; both need -DGGML_RPC=ON)",
            *(f"#      {name} is {node}" for name, node in zip(names, pipeline.nodes, strict=True)),
            "# 2. near the first node, on a host without an accelerator of its own, this script.",
            "set -eu",
            'exec llama-server --model "$MODEL" \\',
            f'  --rpc "{servers}" \\',
            f"  --tensor-split {','.join(map(str, shares))} \\",
            "  --n-gpu-layers 999 \\",
            f"  --ctx-size {tokens * pipeline.max_num_seqs} \\",
            f"  --parallel {pipeline.max_num_seqs}",
            "",
        ]
    )


def _with_readme(engine: str, scripts: dict[str, str], warnings: list[str]) -> Export:
    """The scripts with a page that says in which order to use them and what they leave out."""
    lines = [f"# This plan under {engine}", ""]
    lines += [
        f"{number}. `{name}`: follow the comments at its head"
        for number, name in enumerate(scripts, start=1)
    ]
    lines += ["", "What the plan says and these scripts do not:", ""]
    lines += [f"- {warning}" for warning in warnings]
    return Export({"README.md": "\n".join(lines) + "\n", **scripts}, tuple(warnings))


def _left_out(manifest: Manifest) -> list[str]:
    plan = manifest.plan
    said = []
    if len(plan.pipelines) > 1:
        weights = ", ".join(f"{pipeline.weight:g}" for pipeline in plan.pipelines)
        said.append(f"put a router before the replicas, with weights {weights}")
    said += [f"standby {one.node} is not expressed; start it by hand" for one in plan.standbys]
    if any(pipeline.micro_batches > 1 for pipeline in plan.pipelines):
        said.append("the number of micro-batches is left to the engine")
    return said
