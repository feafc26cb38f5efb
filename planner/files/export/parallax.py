"""Parallax: a server for every stage with fixed layers, without its scheduler.

Options of https://github.com/GradientHQ/parallax, src/parallax/server/server_args.py.
"""

from __future__ import annotations

from planner.core.plan import Pipeline, Stage
from planner.files.export.exported import Export, Step, script, started
from planner.files.manifest import Manifest

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_PORT, _PEER_PORT = 3000, 3010


def export(manifest: Manifest) -> Export:
    """A script per stage; the first one of a replica prints the peer that the others join."""
    made = started("Parallax", manifest)
    made.steps.append(
        Step(
            "Install Parallax on every node.",
            (
                "git clone https://github.com/GradientHQ/parallax.git && cd parallax",
                "pip install -e '.[gpu]'  # '.[mac]' on Apple silicon",
            ),
        )
    )
    for index, pipeline in enumerate(manifest.plan.pipelines):
        for number, stage in enumerate(pipeline.stages):
            made.files[f"stage-{stage.node}.sh"] = _stage(
                made, manifest, index, pipeline, stage, first=number == 0
            )
        head, *others = pipeline.nodes
        made.steps.append(
            Step(
                f"Replica {index}, in a checkout of Parallax: {head} first; it prints PEER. MODEL "
                "is the checkpoint.",
                (
                    f"MODEL=... ADDRESS=... sh stage-{head}.sh  # on {head}",
                    *(f"MODEL=... ADDRESS=... PEER=... sh stage-{n}.sh  # on {n}" for n in others),
                ),
            )
        )
    made.warn("the order of hops is the order of layers; Parallax finds the peers by itself")
    return made.whole()


def _stage(
    made: Export, manifest: Manifest, index: int, pipeline: Pipeline, stage: Stage, first: bool
) -> str:
    node = manifest.problem.cluster.node(stage.node)
    command = [
        *("python", "src/parallax/launch.py", "--model-path", '"$MODEL"'),
        *("--start-layer", str(stage.start), "--end-layer", str(stage.stop)),
        *("--max-sequence-length", str(manifest.problem.tokens_per_request)),
        *("--max-concurrent-requests", str(pipeline.max_num_seqs)),
        *("--host", "0.0.0.0", "--port", str(_PORT)),
        *("--tcp-port", str(_PEER_PORT)),
        *("--announce-maddrs", f'"/ip4/$ADDRESS/tcp/{_PEER_PORT}"'),
        *("--dht-prefix", f"{manifest.problem_digest[:12]}-{index}"),
        *("--tp-size", str(node.count)),
    ]
    if not first:
        command += ["--initial-peers", '"$PEER"']
    if stage.quant in _DTYPES:
        command += ["--dtype", _DTYPES[stage.quant]]
    else:
        made.warn(f"{stage.quant} comes with the checkpoint under Parallax; MODEL has to be in it")
    said = [f"Runs on {stage.node}: layers {stage.start} to {stage.stop - 1}."]
    return script(said, [], command)
