"""Takeover: the least time that making losses good takes of a pipeline, however it is cut.

A rented node that went has lost its weights, so whoever takes a stage loads some of them, and the
stages of a pipeline have all weights between them. Each stage takes some seconds an hour and some
for each byte; the least there is fills the stages that take least for a byte first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.core.cost.availability import fate, node_up_share
from planner.core.cost.ledger import returns_per_hour
from planner.core.cost.loading import weights_bytes
from planner.core.cost.outage import Candidate, stage_losses
from planner.core.cost.transfer import Carrier
from planner.core.plan import Stage
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.room import capacity_bytes

_HOUR_S = 3600.0
Line = tuple[float, float]
"""Seconds an hour of a stage, and more for each byte of its weights."""


@dataclass(frozen=True)
class Takeover:
    """What losses of nodes take at least, in each of these quantizations."""

    problem: Problem
    quants: tuple[QuantScheme, ...]

    def least_s(
        self, holders: Sequence[str], standbys: Sequence[str], *, every: bool = False
    ) -> float:
        """Seconds of an hour, several losses at once counted as often, of a pipeline over nodes.

        Standbys may take any of the stages, or each takes ``every`` one, hot as far as a later loss
        finds them so.
        """
        groups: dict[tuple[str, str], list[str]] = {}
        for name in holders:
            groups.setdefault(fate(self.problem.cluster, name), []).append(name)
        fixed_s, rows = 0.0, list[tuple[float, float]]()
        for group in groups.values():
            each = [self.stage(name, standbys, every) for name in group]
            fixed_s += min(own_s for own_s, _ in each)
            for name, (_, byte_s) in zip(group, each, strict=True):  # of a fate one loss counts
                rows.append((byte_s if len(group) == 1 else 0.0, self._rooms[name]))
        return fixed_s + _filled(rows, self.weights_bytes)

    def stage(self, own: str, standbys: Sequence[str], every: bool = False) -> Line:
        """What a stage takes at least whose node is backed by these, or maybe some of them."""
        key = own, tuple(standbys), every
        if key not in self._known:
            lines = [self._chain((own, *standbys))] if len(standbys) < 2 else []
            if standbys and not every:
                lines.append(self._chain((own,)))
            if len(standbys) > 1:
                lines.append(self._any(own, standbys))
            self._known[key] = min(a for a, _ in lines), min(b for _, b in lines)
        return self._known[key]

    def _chain(self, names: Sequence[str]) -> Line:
        """The same of a stage that these nodes take in that order, those of one fate once."""
        once = {fate(self.problem.cluster, name): name for name in reversed(names)}
        chosen = [name for name in names if once[fate(self.problem.cluster, name)] == name]
        size = self.weights_bytes

        def seconds(held_bytes: float) -> float:
            each = tuple(self._candidate(name, held_bytes) for name in chosen)
            return stage_losses(self.problem.serving.detect_s, each)[2]

        if not returns_per_hour(self.problem, names[0]):
            return 0.0, 0.0
        fixed_s = seconds(0.0)
        return fixed_s, (seconds(size) - fixed_s) / size

    def _any(self, own: str, standbys: Sequence[str]) -> Line:
        """The same whichever of the standbys take it: least rate of losses, least time of each."""
        each = [self._candidate(name, 0.0) for name in (own, *standbys)]
        back = each[0].returns
        cycle_s = max(one.stays_s for one in each) + (1 / back if back else 0.0)
        if not returns_per_hour(self.problem, own) or math.isinf(cycle_s):
            return 0.0, 0.0
        often = _HOUR_S / cycle_s
        byte_s = min(self.byte_s(name) for name in (own, *standbys))
        return often * min(one.takeover_s for one in each), often * byte_s

    def _candidate(self, name: str, held_bytes: float) -> Candidate:
        """A node that takes a stage of so many bytes; nothing has to be computed again."""
        load_s = self.problem.engine.load_s if self._cold(name) else 0.0
        return Candidate(
            node_up_share(self.problem.cluster, name),
            returns_per_hour(self.problem, name),
            self.problem.engine.takeover_s + load_s + self.byte_s(name) * held_bytes,
        )

    def byte_s(self, name: str) -> float:
        """Seconds for each byte that it has to load."""
        cluster, engine = self.problem.cluster, self.problem.engine
        if not self._cold(name):
            return 0.0
        link = cluster.link(cluster.coordinator, name)
        disk_s = 1 / engine.load_bytes_per_s if engine.load_bytes_per_s is not None else 0.0
        return 1 / Carrier.of(link, engine, "prefill").rate + disk_s

    def _cold(self, name: str) -> bool:
        """Whether a later loss finds it without weights."""
        cluster = self.problem.cluster
        lost = cluster.node(name).trust == "rented" and returns_per_hour(self.problem, name) > 0
        return lost and cluster.connected(cluster.coordinator, name)

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[str, ...], bool], Line]:
        return {}

    @cached_property
    def _rooms(self) -> dict[str, float]:
        """Bytes that each node holds at most."""
        names = (node.id for node in self.problem.cluster.workers)
        return {name: capacity_bytes(self.problem, name) for name in names}

    @cached_property
    def weights_bytes(self) -> float:
        """Of the whole model in the smallest quantization."""
        layers, node = self.problem.model.num_hidden_layers, self.problem.cluster.workers[0].id
        whole = [Stage(node=node, start=0, stop=layers, quant=one.id) for one in self.quants]
        return min(weights_bytes(self.problem, stage) for stage in whole)


def _filled(rows: Sequence[tuple[float, float]], size_bytes: float) -> float:
    """Least seconds for all bytes over places that take so many for each and hold so many."""
    seconds, left = 0.0, size_bytes
    for byte_s, room_bytes in sorted(rows):
        held = min(left, room_bytes)
        seconds, left = seconds + byte_s * held, left - held
    return seconds
