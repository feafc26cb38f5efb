"""The part of ``planner probe`` that measures links between hosts."""

from __future__ import annotations

from pathlib import Path

from planner.cli import console
from planner.cli.console import Format
from planner.core.errors import UsageError

_LISTEN_S = 1800.0


def listen(address: str) -> None:
    """Answers measurements of other hosts for half an hour, or until it is interrupted."""
    import threading

    from planner.run.peers import PeerListener

    host, port = _address(address, lowest=0)
    listener = PeerListener(host, port)
    timer = threading.Timer(_LISTEN_S, listener.close)
    timer.daemon = True
    timer.start()
    console.note(
        f"listening on {host}:{listener.port} for {_LISTEN_S / 60:.0f} minutes; "
        f"measure from another host with planner probe --peer, stop with Ctrl-C"
    )
    try:
        listener.serve()
    finally:
        timer.cancel()


def measure(peers: list[str], out: Path | None, format: Format) -> None:
    """Measures the links to peers and prints them, or writes ``links.yaml`` into a folder."""
    import socket

    from planner.files.atomic import write_text
    from planner.files.readable import readable
    from planner.files.yamltext import to_yaml
    from planner.report.links import LinksReport, link_entries
    from planner.run.peers import measure_link

    addresses = [_address(peer, lowest=1) for peer in peers]
    console.check_folder("--out", out)
    found = []
    with console.progress("measuring links", len(addresses), "links") as advance:
        for host, port in addresses:
            found.append(measure_link(host, port))
            advance(1)
    names = {"one_way_latency_s": "one_way_latency", "bytes_per_s": "bandwidth"}
    names["jitter_s"] = "jitter"
    here = socket.gethostname().partition(".")[0]
    entries = [
        {names.get(key, key): readable(value, name=key) for key, value in entry.items()}
        for entry in link_entries(found, here)
    ]
    text = to_yaml({"links": entries})
    file = None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        file = out / "links.yaml"
        write_text(file, text)
    report = LinksReport(found, {"links": entries}, text, file)
    console.tell(report, format)


def _address(text: str, lowest: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not lowest <= int(port) <= 65535:
        raise UsageError(f"{text!r} is no HOST:PORT", "write it like 192.0.2.7:7400")
    return host.strip("[]"), int(port)
