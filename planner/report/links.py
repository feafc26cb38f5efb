"""What ``planner probe --peer`` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.core.units import show
from planner.report.tables import Lines
from planner.run.peers import STREAMS, Flow, MeasuredLink


@dataclass(frozen=True, slots=True)
class LinksReport:
    """The links of a host to its peers."""

    links: Sequence[MeasuredLink]
    entries: Mapping[str, object]
    """``links:`` of a scenario."""
    yaml: str
    file: Path | None

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "streams": STREAMS,
            "peers": [_figures(link) for link in self.links],
            "file": str(self.file) if self.file else None,
            **self.entries,
        }

    def text(self) -> Lines:
        """A table for people, then the YAML to paste."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("Peer", "RTT min", "p50", "p95", "", "One stream", f"{STREAMS} streams"):
            table.add_column(name, justify="left" if name == "Peer" else "right")
        table.add_column("Loss", justify="right")
        for link in self.links:
            rtt = [show(link.quantile_s(at), "s", 3) for at in (0, 50, 95)]
            for way, flow in (("there", link.there), ("back", link.back)):
                row = (link.peer, *rtt) if way == "there" else ("",) * 4
                table.add_row(*row, way, *_shown(flow))
        yield table
        yield ""
        yield f"wrote {self.file}" if self.file else self.yaml.rstrip()


def link_entries(links: Sequence[MeasuredLink], here: str) -> list[dict[str, object]]:
    """Links by the figures of core's Link, both directions; peers go by their host name.

    The rate is that of one stream, which is what a hop uses; loss is already in it.
    """
    found: list[dict[str, object]] = []
    for link in links:
        peer = link.peer.rpartition(":")[0].strip("[]").replace(":", "-")
        for src, dst, flow in ((here, peer, link.there), (peer, here, link.back)):
            found.append(
                {
                    "from": src,
                    "to": dst,
                    "one_way_latency_s": _digits(link.quantile_s(50) / 2),
                    "bytes_per_s": _digits(flow.single_bytes_per_s),
                    "jitter_s": _digits(link.jitter_s),
                }
            )
    return found


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def _shown(flow: Flow) -> tuple[str, str, str]:
    loss = "unknown" if flow.loss is None else f"{flow.loss:.2%}"
    rates = (flow.single_bytes_per_s, flow.parallel_bytes_per_s)
    one, all_together = (show(rate, "bytes_per_s", 3) for rate in rates)
    return one, all_together, loss


def _figures(link: MeasuredLink) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "peer": link.peer,
        "rtt_min_ms": link.quantile_s(0) * 1e3,
        "rtt_p50_ms": link.quantile_s(50) * 1e3,
        "rtt_p95_ms": link.quantile_s(95) * 1e3,
        "jitter_ms": link.jitter_s * 1e3,
    }
    for way, flow in (("there", link.there), ("back", link.back)):
        figures[way] = {
            "single_bytes_per_s": flow.single_bytes_per_s,
            "parallel_bytes_per_s": flow.parallel_bytes_per_s,
            "loss": flow.loss,
        }
    return figures
