"""Difference of two manifests: what moved, and what that does to latency and cost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.spec import Spec
from planner.files.manifest import Manifest

MOST_CHANGES = 200


class Share(Spec):
    """What one node holds in a plan."""

    pipeline: int
    start: int
    stop: int
    quant: str


class Moved(Spec):
    """A node that holds something else than before; None where it holds nothing."""

    node: str
    before: Share | None
    after: Share | None


class Delta(Spec):
    """A number of both manifests."""

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """Signed fraction of the number before; None where there is none."""
        if self.before is None or self.after is None or self.before == 0:
            return None
        return self.after / self.before - 1


class Change(Spec):
    """A value of the problem that differs; None where one side lacks it."""

    path: str
    before: Any
    after: Any


class Difference(Spec):
    """What is different between two manifests."""

    moved: tuple[Moved, ...]
    pipelines: Delta
    """Replicas of the model."""
    metrics: tuple[Delta, ...]
    cost_usd_per_hour: tuple[Delta, ...]
    problem: tuple[Change, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        numbers = (self.pipelines, *self.metrics, *self.cost_usd_per_hour)
        return not (self.moved or self.problem or any(d.before != d.after for d in numbers))


def difference(before: Manifest, after: Manifest) -> Difference:
    """What differs from one manifest to the other, in a fixed order."""
    old, new = _shares(before.plan), _shares(after.plan)
    nodes = [node for node in {**old, **new} if old.get(node) != new.get(node)]
    return Difference(
        moved=tuple(Moved(node=n, before=old.get(n), after=new.get(n)) for n in nodes),
        pipelines=Delta(
            name="pipelines",
            before=len(before.plan.pipelines),
            after=len(after.plan.pipelines),
        ),
        metrics=_metrics(before.prediction.metrics, after.prediction.metrics),
        cost_usd_per_hour=_deltas(
            before.prediction.cost_usd_per_hour, after.prediction.cost_usd_per_hour
        ),
        problem=changes(before.problem, after.problem),
    )


def changes(before: Problem, after: Problem) -> tuple[Change, ...]:
    """The values of a problem that differ from another's, in a fixed order, the first ones only."""
    pair = (before.model_dump(mode="json"), after.model_dump(mode="json"))
    found = (Change(path=path, before=one, after=other) for path, one, other in _changes(*pair, ""))
    return tuple(islice(found, MOST_CHANGES))


def _shares(plan: Plan) -> dict[str, Share]:
    return {
        stage.node: Share(pipeline=index, start=stage.start, stop=stage.stop, quant=stage.quant)
        for index, pipeline in enumerate(plan.pipelines)
        for stage in pipeline.stages
    }


def _metrics(before: Metrics, after: Metrics) -> tuple[Delta, ...]:
    return _deltas(before.model_dump(exclude_none=True), after.model_dump(exclude_none=True))


def _deltas(before: dict[str, float], after: dict[str, float]) -> tuple[Delta, ...]:
    return tuple(
        Delta(name=name, before=before.get(name), after=after.get(name))
        for name in {**before, **after}
    )


def _changes(before: Any, after: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Leaves that differ; list entries are compared by what names them."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = _by_name(before), _by_name(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            inner = f"{path}.{key}" if path else str(key)
            yield from _changes(before.get(key), after.get(key), inner)
    elif before != after:
        yield path, before, after


def _by_name(entries: list[Any]) -> dict[str, Any]:
    """Entries by their id or their ends, and by their number where that names several."""
    for names in (("id",), ("src", "dst")):
        if all(isinstance(entry, dict) and entry.keys() >= set(names) for entry in entries):
            found = {" -> ".join(str(entry[name]) for name in names): entry for entry in entries}
            if len(found) == len(entries):
                return found
    return {str(index): entry for index, entry in enumerate(entries)}
