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
_ALL_LAYERS = "999"
_LOOKED_UP = "2"
"""Latest tokens that are looked for in the text so far: the fewest that our runtime looks for."""


def export(manifest: Manifest) -> Export:
    """A script per node, and one per replica that serves."""
    made = started("llama.cpp", manifest, drafts=True)
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
    _draft_warnings(made, manifest)
    return made.whole()


def _draft_warnings(made: Export, manifest: Manifest) -> None:
    """What llama-server does otherwise than the plan where tokens are drafted."""
    speculation = manifest.problem.serving.speculation
    if speculation is None:
        return
    if manifest.problem.draft is not None:
        made.warn(
            "DRAFT has to have the vocabulary of MODEL; it computes on DRAFT_DEVICE of "
            "llama-server's host, one of llama-server --list-devices"
        )
    if speculation.checks_in_flight > 1:
        made.warn(
            f"llama-server has one check under way at a time, the plan "
            f"{speculation.checks_in_flight}: a round takes as long as drafting and checking"
        )


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
    draft = manifest.problem.draft
    hosts = " ".join(f"HOST_{number}=..." for number in range(len(pipeline.nodes)))
    told = ", ".join(f"HOST_{number} is {node}" for number, node in enumerate(pipeline.nodes))
    made.files[f"{folder}/serve.sh"] = _serve(manifest, pipeline, told)
    made.steps += [
        Step(
            f"Replica {index}: start the servers.",
            tuple(f"ADDRESS=... sh {folder}/rpc-{n}.sh  # on {n}" for n in pipeline.nodes),
        ),
        Step(
            f"Replica {index}: serve from a host near them. {told}; MODEL is the GGUF file"
            + (f", DRAFT that of {draft.id}." if draft else "."),
            (f"MODEL=... {'DRAFT=... ' if draft else ''}{hosts} sh {folder}/serve.sh",),
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
        *("--n-gpu-layers", _ALL_LAYERS),
        *("--ctx-size", str(manifest.problem.tokens_per_request * seats)),
        *("--parallel", str(seats)),
    ]
    if all(manifest.problem.quant(one.quant).kv_bits <= _EIGHT_BITS for one in pipeline.stages):
        command += ["--cache-type-k", "q8_0", "--cache-type-v", "q8_0"]
    said = [told + ".", "The output head counts as one more layer, held by the last stage."]
    lines, drafting = _drafting(manifest)
    return script(said, lines, [*command, *drafting])


def _drafting(manifest: Manifest) -> tuple[list[str], list[str]]:
    """Lines that go before the command, and its options, where tokens are drafted.

    A draft follows --device where nothing is said, over the network to the stages; the plan has it
    at the coordinator.
    """
    speculation, draft = manifest.problem.serving.speculation, manifest.problem.draft
    if speculation is None:
        return [], []
    tokens = str(speculation.draft_tokens)
    if draft is None:
        alike = ("--spec-ngram-simple-size-n", _LOOKED_UP, "--spec-ngram-simple-size-m", tokens)
        return [], ["--spec-type", "ngram-simple", *alike]
    cluster = manifest.problem.cluster
    home = cluster.node(cluster.coordinator)
    has_cuda = home.device and cluster.device(home.id).device_class.startswith("nvidia")
    on = "CUDA0" if has_cuda else "none"
    return [f'DRAFT_DEVICE="${{DRAFT_DEVICE:-{on}}}"'], [
        *("--spec-type", "draft-simple", "--spec-draft-model", '"$DRAFT"'),
        *("--spec-draft-device", '"$DRAFT_DEVICE"', "--spec-draft-ngl", _ALL_LAYERS),
        *("--spec-draft-n-max", tokens),
    ]
