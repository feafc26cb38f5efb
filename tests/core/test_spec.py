"""Copies of values know nothing of what was computed of the values they came from."""

from __future__ import annotations

from functools import cached_property

from planner.core.cluster import Node
from planner.core.problem import Problem
from planner.core.spec import Spec
from tests.core.world import problem


def test_a_changed_copy_has_a_digest_of_its_own() -> None:
    before = problem()
    known = before.digest
    serving = before.serving.model_copy(update={"patience_s": 7.0})
    after = before.model_copy(update={"serving": serving})
    assert after.digest != known
    assert after.digest == Problem.model_validate(after.model_dump()).digest
    assert after.model_copy(update={"serving": before.serving}).digest == known
    assert before.digest == known


def test_a_changed_copy_finds_what_it_has_and_not_what_it_had() -> None:
    before = problem()
    name = before.cluster.nodes[0].id
    assert before.cluster.node(name).region == before.cluster.nodes[0].region
    moved = Node(id=name, region="elsewhere")
    cluster = before.cluster.model_copy(update={"nodes": (moved, *before.cluster.nodes[1:])})
    assert cluster.node(name) is moved
    (quant, *_) = before.quants
    assert before.quant(quant.id) is quant
    wider = quant.model_copy(update={"weight_bits": 32})
    assert before.model_copy(update={"quants": (wider,)}).quant(quant.id) is wider


class Square(Spec):
    side: float
    note: str = ""

    @cached_property
    def area(self) -> float:
        return self.side**2


def test_an_equal_copy_keeps_what_was_computed() -> None:
    square = Square(side=3.0)
    assert square.area == 9.0
    assert "area" in square.model_copy().__dict__
    assert square.model_copy(update={"side": 4.0}).area == 16.0
    assert square.model_copy(update={"side": 4.0}, deep=True).model_fields_set == {"side"}
