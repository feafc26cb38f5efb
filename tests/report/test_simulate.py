"""The report of simulations, from figures made by hand."""

from __future__ import annotations

import csv
import dataclasses
import datetime

import pytest
from rich.console import Console

from planner.core.metrics import Metrics, RequestRecord
from planner.core.prices import PriceList, TokenPrice
from planner.core.requirements import Miss, MustHave
from planner.report.records import COLUMNS, records_csv
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


def test_targets_are_compared_with_what_they_miss() -> None:
    report = SimulateReport([FAST, LATE], 10.0, 0.5, 100, left_out=[("none", "no room")])
    text = read(report)
    assert text.startswith("fast, simulated\n")
    assert "Compared, on the same requests" in text
    assert "misses mean_tpot_ms" in text
    assert "late misses: mean time per output token is 90 ms, asked is 50 ms" in text
    assert "none is left out: no room" in text
    assert "b  " not in text.split("Busy")[1].split("Compared")[0]
    document = report.document()
    assert document["engine"] == {"simulated_s": 10.0, "wall_s": 0.5, "events": 100}
    assert [row["missed"] for row in document["comparison"]] == [
        [],
        [{"metric": "mean_tpot_ms", "value": 90.0, "bound": 50.0}],
    ]
    assert document["targets"][0]["confidence"] == {"mean_tpot_ms": [9.0, 11.0]}


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


def test_an_api_is_priced_by_the_tokens_that_were_served() -> None:
    price = TokenPrice(model="m", usd_per_input_token=1e-6, usd_per_output_token=3e-6)
    prices = PriceList(
        id="shop",
        provider="Shop",
        models=(price,),
        source="a page",
        as_of=datetime.date(2026, 1, 1),
    )
    must = MustHave(usd_per_million_output_tokens=1.0, mean_tpot=0.01)
    of = Metrics(output_throughput=50.0)
    target = api_target(price, prices, [(200, 10), (100, 20)], of, must)
    # 300 prompt tokens at 1 and 30 output tokens at 3 USD/Mtok are 390 USD/M, by 30 tokens 13.
    assert target.metrics.usd_per_million_output_tokens == pytest.approx(13.0)
    assert target.metrics.usd_per_hour == pytest.approx(13e-6 * 50 * 3600)
    assert target.cost["tokens"] == target.metrics.usd_per_hour
    assert [miss.metric for miss in target.missed] == ["usd_per_million_output_tokens"]
    assert "2026-01-01" in target.source
    assert api_target(price, prices, [], of, must).metrics == Metrics()


def test_records_have_a_row_per_request() -> None:
    done = RequestRecord(0, 0, 9, 1.0, [1.5, 2.0, 2.5], "completed")
    lost = RequestRecord(1, 0, 9, 2.0, [], "failed", "node, lost")
    result = SimResult([done, lost], Metrics(), {}, {}, 3.0, 5, {}, {}, (1,))
    rows = list(csv.DictReader(records_csv([("one", [result, result])]).splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["replication"], row["id"]) for row in rows] == [
        ("0", "0"),
        ("0", "1"),
        ("1", "0"),
        ("1", "1"),
    ]
    assert (rows[0]["ttft_ms"], rows[0]["tpot_ms"], rows[0]["e2el_ms"]) == (
        "500.0",
        "500.0",
        "1500.0",
    )
    assert (rows[1]["ttft_ms"], rows[1]["reason"]) == ("", "node, lost")
