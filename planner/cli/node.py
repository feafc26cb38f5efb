"""``planner node``: lends this machine to a deployment, and makes the keys for that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ManifestArgument

if TYPE_CHECKING:
    import socket

    from planner.run.node import Node

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def node(
    context: typer.Context,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Where coordinators and nodes call."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="DIR",
            help="This node's keys, from planner node init.",
            envvar="PLANNER_NODE_KEYS",
        ),
    ] = None,
    weights: Annotated[
        Path,
        typer.Option(
            "--weights",
            metavar="DIR",
            help="Weights root: checkpoints that are there are used, what is fetched is kept.",
        ),
    ] = Path("weights"),
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Compute threads of a worker.  [default: all cores]"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, or cuda and its number.")] = "cpu",
    workers: Annotated[
        int, typer.Option("--max-workers", min=1, help="Workers of one coordinator at once.")
    ] = 8,
    streams: Annotated[
        int, typer.Option("--max-streams", min=1, help="Connections of one member at once.")
    ] = 64,
    cache_tokens: Annotated[
        int, typer.Option("--max-cache-tokens", min=1, help="Seats times tokens of one worker.")
    ] = 2**20,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure-loopback",
            help="Without keys and encryption, for an address that only this host can reach.",
        ),
    ] = False,
) -> None:
    """Serve stages of a plan on this machine.

    For the members of one deployment: everybody who connects has to show a certificate of it (TLS
    1.3 on both sides) and sign a fresh challenge. A coordinator also needs a warrant: the plan,
    signed by the operator. Runs until it is interrupted; what it says goes to stderr and holds no
    prompts.

    Example: `planner node --listen 0.0.0.0:7431 --keys keys/berlin --weights /srv/weights`
    """
    if context.invoked_subcommand is not None:
        return
    from planner.cli.endpoint import listen_at
    from planner.cli.extra import needs
    from planner.core.errors import UsageError

    if listen is None:
        raise UsageError("planner node needs --listen HOST:PORT", "see planner node --help")
    if keys is None and not insecure:
        raise UsageError(
            "planner node needs --keys DIR", "planner node init makes keys for a deployment"
        )
    with needs("run", "planner node"), needs("verify", "planner node"):
        from planner.run.identity import read_keys
        from planner.run.limits import Limits
        from planner.run.node import Compute, Node
        from planner.run.store import Store
    limits = Limits(workers=workers, streams=streams, cache_tokens=cache_tokens)
    compute = Compute(threads or len(os.sched_getaffinity(0)), device)
    mine = None if keys is None else read_keys(keys)
    listener = listen_at(listen, lacks="" if mine else "--keys")
    _serve(Node(mine, Store(weights), compute, limits), listener)


@app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where keys and inventory go.")],
    nodes: Annotated[
        list[str],
        typer.Option("--node", metavar="ID=HOST:PORT", help="A node and its address; repeat it."),
    ],
    coordinator: Annotated[
        str, typer.Option("--coordinator", metavar="ID", help="Who runs plans.")
    ] = "home",
    days: Annotated[
        float, typer.Option("--days", min=0.0, help="How long the certificates are good.")
    ] = 365.0,
    format: FormatOption = Format.text,
) -> None:
    """Make a deployment: its certificate authority, keys for every node, and the inventory.

    Copy DIR/ID to its node and to nobody else; DIR/ca.key stays with the operator, who signs
    plans with it. In a DIR that holds a deployment, nodes are added to it.

    Example: `planner node init keys --node berlin=10.0.0.2:7431 --node paris=10.0.0.3:7431`
    """
    from planner.cli.extra import needs
    from planner.files.inventory import Inventory, NodeEntry, read_inventory, write_inventory

    with needs("verify", "planner node init"):
        from planner.run.identity import KEY, new_authority
    addresses = dict(_split(text) for text in nodes)
    authority = new_authority(folder, days)
    if not (folder / coordinator / KEY).exists():
        authority.admit("coordinator", coordinator, days)
    path = folder / "inventory.yaml"
    known = dict(read_inventory(path).nodes) if path.exists() else {}
    for name, address in addresses.items():
        member = authority.admit("node", name, days)
        known[name] = NodeEntry(address=address, key=member.fingerprint)
    write_inventory(path, Inventory(keys=coordinator, nodes=known))
    if format is Format.json:
        console.emit_json(
            {
                "deployment": authority.deployment,
                "inventory": path,
                "nodes": {name: entry.key for name, entry in known.items()},
            }
        )
        return
    console.emit(f"deployment {authority.deployment}: {path}")
    for name in addresses:
        console.emit(f"  copy {folder / name} to {name}")


@app.command("sign")
def sign(
    manifest: ManifestArgument,
    authority: Annotated[
        Path, typer.Option("--authority", metavar="DIR", help="Directory with ca.key.")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", metavar="DIR", help="Model directory.  [default: the manifest's]"
        ),
    ] = None,
    days: Annotated[
        float, typer.Option("--days", min=0.0, help="How long the signature is good.")
    ] = 30.0,
    format: FormatOption = Format.text,
) -> None:
    """Sign a manifest, so that the nodes of a deployment carry it out.

    Says which node may hold which layers and what the weights are (SHA-256 of every piece), until
    when, with an epoch higher than any before: nodes refuse what was replaced.

    Example: `planner node sign manifest.yaml --authority keys`
    """
    from planner.cli.extra import needs
    from planner.files.manifest import read_manifest

    with needs("verify", "planner node sign"):
        from planner.cli.checkpoint import choose
        from planner.files.warrant import sign_manifest
        from planner.run.blobs import list_pieces
        from planner.run.checkpoint import open_checkpoint
        from planner.run.identity import open_authority
    planned = read_manifest(manifest)
    owner = open_authority(authority)
    opened = open_checkpoint(choose(planned, manifest, checkpoint))
    with console.progress("reading the weights"):
        pieces = list_pieces(opened)
    path, warrant = sign_manifest(manifest, planned.plan, pieces, owner, days)
    if format is Format.json:
        console.emit_json({"warrant": path, "epoch": warrant.epoch, "weights": warrant.weights})
    else:
        console.emit(f"epoch {warrant.epoch} of deployment {warrant.deployment}: {path}")


def _split(text: str) -> tuple[str, str]:
    """Node and address of ``ID=HOST:PORT``; raises UsageError."""
    from planner.core.errors import UsageError
    from planner.files.inventory import split_address

    name, _, address = text.partition("=")
    try:
        split_address(address)
    except ValueError as error:
        raise UsageError(f"--node {text}: {error}", "such as berlin=10.0.0.2:7431") from None
    return name, address


def _serve(serving: Node, listener: socket.socket) -> None:
    """Until SIGINT or SIGTERM; workers end with the connections that they serve."""
    import logging
    import sys

    from planner.cli.endpoint import end_on_sigterm

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    end_on_sigterm()
    who = serving.keys.me.id if serving.keys else "without keys"
    console.note(f"node {who} listens at {listener.getsockname()[0]}:{listener.getsockname()[1]}")
    with listener:
        serving.serve(listener)
