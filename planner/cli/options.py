"""Options of ``planner run`` that say where it runs, whom it answers and what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

DraftOption = Annotated[
    Path | None,
    typer.Option(
        "--draft",
        metavar="DIR",
        help="Hugging Face directory of the draft model that the plan guesses ahead with.  "
        "[default: the manifest's]",
    ),
]
NodesOption = Annotated[
    Path | None,
    typer.Option(
        "--nodes",
        metavar="INVENTORY",
        help="Run on these nodes, where planner node listens, instead of on this host.",
    ),
]
ServeOption = Annotated[
    str | None,
    typer.Option(
        "--serve",
        metavar="HOST:PORT",
        help="Answer OpenAI-compatible requests there until interrupted, instead of a replay.",
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="PLANNER_API_KEY",
        help="Key that clients of --serve have to show; needed beyond this host.",
    ),
]
TlsCertOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        help="Certificate chain (PEM) for --serve over HTTPS; needed beyond this host.",
    ),
]
TlsKeyOption = Annotated[
    Path | None, typer.Option("--tls-key", metavar="FILE", help="Key of --tls-cert (PEM).")
]
QueueOption = Annotated[
    int | None,
    typer.Option(
        "--queue",
        min=0,
        help="Requests of --serve that may wait; more get 429.  [default: 4 for each seat]",
    ),
]

EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="Who starts the workers: this host, or a Ray cluster that also watches them and "
        "starts them anew.  [extra: ray]",
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        envvar="RAY_ADDRESS",
        help="Ray cluster of --engine ray.  [default: the one of this host]",
    ),
]

LoseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lose",
        metavar="NODE@TIME[+AWAY]",
        help="Rehearse a loss: end the worker of a node after TIME, and have the node come back "
        "AWAY later if that is given. May be repeated.",
    ),
]
HangOption = Annotated[
    list[str] | None,
    typer.Option(
        "--hang",
        metavar="NODE@TIME[+AWAY]",
        help="The same, but the worker stops without a word instead of ending.",
    ),
]
FeedbackOption = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="DIR",
        help="Write the engine's profile to this profiles folder, corrected by what the run took.",
    ),
]
GaugeOption = Annotated[
    bool,
    typer.Option(
        "--gauge/--no-gauge",
        help="Read first what each probed host reaches, have the stages make steps in turn, and "
        "predict with that.",
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Let stages compile their steps of one sequence with the host's C++ compiler, which "
        "takes about a minute once, or record their steps as CUDA graphs on a GPU, and keep what "
        "came of it where it is faster.",
    ),
]
DeterministicOption = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Have nodes that take over repeat the original steps, so that no token changes.",
    ),
]
