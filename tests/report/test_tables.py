"""Figures, labels and bars."""

from __future__ import annotations

import pytest
from rich.console import Console

from planner.core.cost.ledger import CostLine
from planner.core.metrics import Metrics
from planner.core.requirements import Miss
from planner.core.trust import Regime
from planner.core.words import figure, label, missed_text
from planner.report.advice import costs_table
from planner.report.tables import bar, cost_rows, gauge, trust


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("mean_tpot_ms", 72.8612, "72.86 ms"),
        ("mean_ttft_ms", 123456.7, "123,457 ms"),
        ("output_throughput", 38.82, "38.82 tok/s"),
        ("request_goodput", 0.153, "0.153 req/s"),
        ("usd_per_million_output_tokens", 4.15, "4.15 USD/Mtok"),
        ("availability", 0.99876, "99.88%"),
        ("completed", 24, "24"),
        ("completed", 11670, "11,670"),
        ("p95_e2el_ms", None, "-"),
    ],
)
def test_figures_carry_their_unit(metric: str, value: float | None, said: str) -> None:
    assert figure(metric, value) == said


def test_every_metric_has_a_name_in_words() -> None:
    assert label("p95_ttft_ms") == "p95 time to first token"
    assert not [name for name in Metrics.model_fields if "_" in label(name)]


def test_bars_stay_within_their_width() -> None:
    assert [len(bar(share, 10)) for share in (-1, 0, 0.5, 1, 2)] == [0, 0, 5, 10, 10]
    assert gauge(3, 4, 4) == "[###.]"
    assert gauge(9, 4, 4) == "[####]"
    assert gauge(0, 0, 4) == "[####]"


def test_a_broken_bound_in_words() -> None:
    miss = Miss(metric="p95_ttft_ms", value=812.0, bound=500.0)
    assert missed_text(miss) == "p95 time to first token is 812 ms, at most 500 ms is asked"
    unknown = Miss(metric="p95_ttft_ms", value=None, bound=500.0)
    assert missed_text(unknown) == "p95 time to first token is unknown, at most 500 ms is asked"


def test_costs_leave_out_zeros_and_add_up() -> None:
    rows = list(cost_rows({"rent": 0.4, "energy": 0.0, "egress": 0.5}))
    assert rows == [("egress", "0.5 USD/h"), ("rent", "0.4 USD/h"), ("in all", "0.9 USD/h")]


def test_trust_says_the_error_only_where_it_is_known() -> None:
    assert trust(0, None).endswith("nothing was measured to tell its error")
    assert "error of such predictions: 12% in the median, 31% at p90" in trust(
        1, {"median": 0.12, "p90": 0.31}
    )
    bands: dict[Regime, dict[str, float]] = {
        "prompt": {"median": 0.12, "p90": 0.31},
        "token": {"median": 0.06, "p90": 0.12},
    }
    told = trust(1, bands["prompt"], "device", bands)
    assert "the device was not measured, others of its class were" in told
    assert "prefill 12% in the median and 31% at p90, decode 6%" in told


def test_lines_below_a_thousandth_of_the_sum_are_told_as_one() -> None:
    lines = [
        CostLine(kind="rent", where="a", usd_per_hour=1.0, note=""),
        CostLine(kind="start_up", where="a", usd_per_hour=4e-6, note="5 min until it starts"),
        CostLine(kind="repeated", where="a", usd_per_hour=1e-6, note=""),
    ]
    console = Console(width=200, no_color=True)
    with console.capture() as said:
        console.print(costs_table(lines, {}))
    told = said.get()
    assert "2 smaller lines" in told
    assert "0.000005 USD/h" in told
    assert "5 min" not in told
    with console.capture() as said:
        console.print(costs_table(lines[:2], {}))
    assert "5 min until it starts" in said.get()
