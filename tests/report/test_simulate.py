"""The report of simulations, from figures made by hand."""

from __future__ import annotations

import dataclasses
import datetime

from rich.console import Console

from planner.advice.advise import Advice
from planner.advice.alternative import Alternative
from planner.advice.flips import Flip
from planner.advice.metered import MeteredHop
from planner.advice.pareto import pareto
from planner.advice.verdict import verdict
from planner.core.cost import CostLine
from planner.core.metrics import Metrics, RequestRecord
from planner.core.requirements import Miss, Requirements
from planner.report.records import RECORDS, record_rows
from planner.report.simulate import SimulateReport, Target, api_target
from planner.sim.result import Recovery, SimResult

FAST = Target(
    name="fast",
    kind="manifest",
    metrics=Metrics(mean_tpot_ms=10.0, output_throughput=50.0, usd_per_million_output_tokens=4.0),
    confidence={"mean_tpot_ms": (9.0, 11.0)},
    cost={"rent": 0.72},
    stage_busy={"a": 0.5, "b": 0.0},
)
LATE = Target(
    name="late",
    kind="scenario",
    metrics=Metrics(mean_tpot_ms=90.0),
    missed=(Miss(metric="mean_tpot_ms", value=90.0, bound=50.0),),
)


def read(report: SimulateReport) -> str:
    console = Console(width=120, markup=False, highlight=False, no_color=True)
    with console.capture() as captured:
        for part in report.text():
            console.print(part)
    return captured.get()


def advice(*flips: Flip) -> Advice:
    found = [
        Alternative(
            name=one.name,
            kind="scenario",
            metrics=one.metrics,
            missed=one.missed,
            confidence=dict(one.confidence),
            lines=(CostLine(kind="rent", where="a", usd_per_hour=0.72),),
        )
        for one in (FAST, LATE)
    ]
    asked = Requirements(objective="usd_per_million_output_tokens")
    hop = MeteredHop(src="a", dst="b", sent_bytes=16.384e9, listed_usd_per_byte=9e-11, usd=1.47)
    return Advice(
        alternatives=tuple(found),
        verdict=verdict(asked, found, flips, asked="fast"),
        flips=flips,
        swings=(),
        points=pareto(found, "fast"),
        hops=(hop,),
        cheapest=("Shop m", 0.4),
    )


NEAR = Flip(
    parameter="load", now=4, to=3, inside=4, before="fast", winner="late", distance=4 / 3,
    replanned=True, text="late is the better choice up to 3 users, now 4",
)  # fmt: skip


def test_what_to_do_comes_first_and_what_each_misses_is_told() -> None:
    told = advice(NEAR)
    report = SimulateReport([FAST, LATE], 10.0, 0.5, 100, left_out=[("none", "no room")])
    report = dataclasses.replace(report, advice=told)
    text = read(report)
    assert text.startswith("Use fast at 4 USD per million output tokens.\n")
    assert "holds only near today's figures: late is the better choice up to 3 users" in text
    words = " ".join(text.split())
    assert "a -> b: a million tokens are 16.4 GB on this hop, 1.47 USD at 0.09 USD/GB" in words
    assert "costs more than the cheapest API asks for the tokens (0.4 USD, Shop m)" in words
    assert text.index("Use fast") < text.index("Compared, on the same requests")
    assert "* fast" in text
    assert "misses 1" in text
    assert "late: misses: mean time per output token is 90 ms, at most 50 ms is asked" in text
    assert "none is left out: no room" in text
    assert "1.33x  near  late is the better choice up to 3 users, now 4" in text
    assert "b  " not in text.split("Busy")[1].split("What would")[0]
    document = report.document()
    assert document["engine"] == {"simulated_s": 10.0, "wall_s": 0.5, "events": 100}
    assert [row["missed"] for row in document["comparison"]] == [
        [],
        [{"metric": "mean_tpot_ms", "value": 90.0, "bound": 50.0}],
    ]
    assert document["targets"][0]["confidence"] == {"mean_tpot_ms": [9.0, 11.0]}
    assert document["verdict"]["winner"] == "fast"
    assert document["flips"][0]["to"] == 3
    assert document["pareto"][0]["chosen"]


def test_recoveries_are_told_by_how_long_they_took() -> None:
    back = Recovery(0, 1, "spare", lost_s=10.0, detected_s=15.0, recovered_s=15.25)
    report = SimulateReport([dataclasses.replace(FAST, recoveries=[back])], 10.0, 0.5, 100)
    (target,) = report.document()["targets"]
    assert target["recoveries"] == [{"node": "spare", "detect_ms": 5000.0, "recover_ms": 250.0}]


def test_one_target_is_compared_with_nothing() -> None:
    report = SimulateReport([FAST], 10.0, 0.5, 100, replications=3)
    text = read(report)
    assert "mean of 3 replications" in text
    assert "time per output token [9, 11]" in text
    assert "Compared" not in text


def test_an_api_is_a_target_with_the_day_of_its_price() -> None:
    found = Alternative(
        name="Shop m",
        kind="api",
        metrics=Metrics(usd_per_hour=2.34, usd_per_million_output_tokens=13.0),
        missed=(Miss(metric="usd_per_million_output_tokens", value=13.0, bound=1.0),),
        unknown=("mean_tpot_ms",),
        source="a page",
        as_of=datetime.date(2026, 1, 1),
    )
    target = api_target(found)
    assert target.cost == {"tokens": 2.34}
    assert target.missed == found.missed
    assert target.source == "price of 2026-01-01, a page; its speed is not known"


def test_records_have_a_row_per_request() -> None:
    done = RequestRecord(0, 0, 9, 1.0, [1.5, 2.0, 2.5], "completed")
    lost = RequestRecord(1, 0, 9, 2.0, [], "failed", "node, lost")
    result = SimResult([done, lost], Metrics(), {}, {}, 3.0, 5, {}, {}, (1,))
    rows = [
        dict(zip(RECORDS, row, strict=True)) for row in record_rows([("one", [result, result])])
    ]
    assert [(row["replication"], row["id"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (rows[0]["ttft_ms"], rows[0]["tpot_ms"], rows[0]["e2el_ms"]) == (500.0, 500.0, 1500.0)
    assert (rows[1]["ttft_ms"], rows[1]["reason"]) == (None, "node, lost")
