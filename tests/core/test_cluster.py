import pytest
from pydantic import ValidationError

from planner.core.cluster import Cluster, Link, Node
from tests.core.world import device, link


def cluster(*links: Link) -> Cluster:
    nodes = (
        Node(id="a", device="chip", region="eu", uplink=1e6),
        Node(id="b", device="chip", region="eu"),
        Node(id="c", device="chip", region="us", downlink=2e6),
    )
    return Cluster(devices=(device(),), nodes=nodes, links=links, coordinator="a")


def test_the_most_specific_link_wins() -> None:
    world = cluster(
        link("*", "*", one_way_latency=1),
        link("region:eu", "region:eu", one_way_latency=2),
        link("b", "a", one_way_latency=3),
    )
    latencies = {
        (src, dst): found.one_way_latency_s
        for src, dst in (("b", "a"), ("a", "b"), ("a", "c"))
        if (found := world.link(src, dst)) is not None
    }
    assert latencies == {("b", "a"): 3, ("a", "b"): 2, ("a", "c"): 1}


def test_a_connection_that_carries_nothing_is_refused() -> None:
    for end in ("uplink", "downlink"):
        with pytest.raises(ValidationError, match="must be above zero; leave it out"):
            Node.model_validate({"id": "a", "device": "chip", end: 0.0})


def test_a_node_s_own_connection_narrows_every_link() -> None:
    world = cluster(link(bandwidth=10e6))
    rates = [
        found.bytes_per_s
        for src, dst in (("a", "b"), ("b", "a"), ("b", "c"))
        if (found := world.link(src, dst)) is not None
    ]
    assert rates == [1e6, 10e6, 2e6]


def test_a_missing_link_is_told_from_the_way_to_oneself() -> None:
    world = cluster(link("a", "b"))
    assert world.link("a", "a") is None
    assert world.connected("a", "b")
    assert not world.connected("b", "a")
    with pytest.raises(LookupError, match="no link from b to a"):
        world.link("b", "a")


def test_names_must_resolve() -> None:
    with pytest.raises(ValidationError, match="'z' is no node"):
        cluster(link("a", "z"))
    with pytest.raises(ValidationError, match="to itself"):
        link("a", "a")
    with pytest.raises(ValidationError, match="above zero"):
        link("a", "b", bandwidth=0)
    twice = (Node(id="a", device="chip"), Node(id="a", device="chip"))
    with pytest.raises(ValidationError, match="used twice: a"):
        Cluster(devices=(device(),), nodes=twice, coordinator="a")
