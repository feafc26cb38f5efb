from __future__ import annotations

import pytest
from pydantic import BaseModel

from planner.core.cluster import Churn, Node
from planner.core.engine import Engine
from planner.core.errors import InvalidFileError
from planner.core.workload import Workload
from planner.files.keys import keys_at, nearest
from planner.files.validate import build
from planner.files.yamlfile import parse_yaml


def said(model: type[BaseModel], text: str) -> list[str]:
    with pytest.raises(InvalidFileError) as caught:
        build(model, parse_yaml(text, "f"))
    return [str(problem) for problem in caught.value.problems]


def test_every_problem_of_a_file_is_told_in_its_order() -> None:
    text = """\
id: a b
count: 1.5
price: -3 USD/h
region: 3.10
trust: onw
uplink: 3 gbps
memory: 24 gib
electricty: 1 USD/kWh
device: [a]
colour: red
"""
    assert said(Node, text) == [
        "f:1:5: id: 'a b' must be letters and digits, and . _ - after the first",
        "f:2:8: count: must be a whole number, not 1.5",
        "f:3:8: price: '-3 USD/h' is negative",
        'f:4:9: region: must be text: put it in quotes, "3.10"',
        "f:5:8: trust: 'onw' is unknown; did you mean own? (choose from own, rented, unknown)",
        "f:6:9: uplink: unit 'gbps' does not fit here; choose from B/s, kB/s, MB/s, GB/s, TB/s, "
        "KiB/s, MiB/s, GiB/s, TiB/s, bit/s, kbit/s, Mbit/s, Gbit/s, Tbit/s",
        "f:7:9: memory: unit 'gib' does not fit here; did you mean GiB?",
        "f:8:1: electricty: unknown key; did you mean electricity?",
        "f:9:9: device: must be text, not a list",
        "f:10:1: colour: unknown key; known here: id, device, count, region, zone, host, "
        "price, billed_by, start_up, purchase, lifetime, electricity, uplink, downlink, "
        "memory, trust, churn",
    ]


def test_tagged_unions_are_explained_by_their_tag() -> None:
    text = """\
arrivals: {kind: close}
prompt: {tokens: 3}
output: {kind: fixed, tokens: many, tokns: 1}
"""
    assert said(Workload, text) == [
        "f:1:18: arrivals.kind: 'close' is unknown; did you mean closed? "
        "(choose from poisson, constant, gamma, weibull, on_off, diurnal, closed)",
        "f:2:9: prompt.kind: is missing; it says which keys may follow",
        "f:3:31: output.tokens: must be a whole number, not 'many'",
        "f:3:37: output.tokns: unknown key; did you mean tokens?",
    ]


def test_shapes_are_named_in_words() -> None:
    text = """\
arrivals: []
prompt: 3
output: {kind: lognormal, median_tokens: 5, sigma: 1, max_tokens: 2}
requests: 0
horizon: 5
"""
    assert said(Workload, text) == [
        "f:1:11: arrivals: must be keys and values, not a list",
        "f:2:9: prompt: must be keys and values, not 3",
        "f:3:9: output: min_tokens <= median_tokens <= max_tokens does not hold",
        "f:4:11: requests: must be at least 1, not 0",
        "f:5:10: horizon: 5 has no unit; write it like 35 ms",
    ]


def test_of_an_untagged_union_only_the_branch_that_was_meant_is_told() -> None:
    text = """\
id: e
name: e
version: "1"
source: x
as_of: yesterday
calibrations:
  - efficiency:
      "*": {bandwidth: 1, compute: x}
      int8: {bandwidth: 1, compute: [[1, 0], [8]]}
      bf16: {bandwidth: 0.5, comput: 1}
    tier: 4
    source: x
"""
    assert said(Engine, text) == [
        "f:5:8: as_of: must be a date like 2026-08-21, not 'yesterday'",
        "f:8:36: calibrations[0].efficiency.*.compute: must be a number, not 'x'",
        "f:9:42: calibrations[0].efficiency.int8.compute[0][1]: must be above 0, not 0",
        "f:9:46: calibrations[0].efficiency.int8.compute[1][1]: is missing",
        "f:10:13: calibrations[0].efficiency.bf16.compute: is missing",
        "f:10:30: calibrations[0].efficiency.bf16.comput: unknown key; did you mean compute?",
        "f:11:11: calibrations[0].tier: '4' is unknown (choose from 0, 1 or 2)",
    ]


def test_extra_keys_stand_for_what_the_file_does_not_say() -> None:
    text = "distribution: exponential\nup_scale: 2 h\ndown_scale: 1 min\n"
    document = parse_yaml(text + "source: x\nas_of: 2026-01-01\n", "f")
    churn = build(Churn, document, extra={"id": "mine"})
    assert (churn.id, churn.up_scale_s, churn.down_scale_s) == ("mine", 7200, 60)


def test_keys_are_known_by_their_written_names_through_every_kind_of_container() -> None:
    assert keys_at(Engine, ("calibrations", 0, "efficiency", "bf16")) == [
        "bandwidth",
        "compute",
        "flop_per_joule",
        "experts",
        "layer_overhead",
    ]
    assert keys_at(Workload, ("prompt", "fixed")) == ["kind", "tokens"]
    assert keys_at(Workload, ("requests",)) == []


@pytest.mark.parametrize(
    ("word", "found"),
    [("rtx4090", "rtx-4090"), ("RTX 4090", "rtx-4090"), ("warm", "warmup"), ("zzz", None)],
)
def test_near_words_are_found(word: str, found: str | None) -> None:
    assert nearest(word, ["rtx-4090", "warmup", "h100"]) == found
