"""Percentiles under open arrivals: seats that are taken or not, and prompts of unlike lengths."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from scipy.special import gammaincinv

from planner.core.cluster import Node
from planner.core.engine import Calibration, Efficiency
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed, Lognormal, Poisson, Workload
from planner.plan.predict import predict
from planner.plan.tails import Waits, erlang, longer, mixed
from planner.sim.simulate import simulate
from tests.core.world import device, engine, problem


@pytest.mark.parametrize("percent", [95.0, 99.0])
def test_the_wait_for_one_seat_has_the_percentiles_of_m_m_1(percent: float) -> None:
    """P(W > t) = load e^(-t load / W): nobody waits at a load below what the percentile leaves."""
    for load in (0.2, 0.5, 0.9):
        known_s = 3.0 / load * math.log(load / (1 - percent / 100))
        assert 3.0 + Waits(0.0, 3.0, load).later_s(percent, 0.0) == pytest.approx(known_s)
    assert Waits(0.0, 3.0, 0.005).later_s(percent, 0.0) == 0.0


def test_without_waits_the_longest_prompts_are_what_is_late() -> None:
    drawn = Lognormal(kind="lognormal", median_tokens=100, sigma=0.8, max_tokens=4000)
    arrivals = Poisson(kind="poisson", rate=1e-6)
    asked = Workload(arrivals=arrivals, prompt=drawn, output=Fixed(tokens=1))
    share = longer(asked, drawn.unevenness, 95.0)
    assert (1 + share) * drawn.mean_tokens == pytest.approx(drawn.quantile(0.95))
    assert Waits(0.0).later_s(95.0, share) == share
    assert longer(asked, 0.0, 95.0) == 0.0


def test_half_of_all_requests_are_sooner_than_the_middle_of_unlike_pipelines() -> None:
    """Without spread it is the one that most have; with spread, where both halves are equal."""

    def median(rates: list[float], medians_s: list[float], p95_s: list[float]) -> float:
        pairs = zip(medians_s, p95_s, strict=True)
        return mixed(rates, [{"median": half, "p95": late} for half, late in pairs], "median")

    assert median([3.0, 2.0], [0.046, 0.059], [0.046, 0.059]) == pytest.approx(0.046)
    assert median([2.0, 3.0], [0.046, 0.059], [0.046, 0.059]) == pytest.approx(0.059)
    spread = math.exp(0.8 * 1.6448536269514722)
    assert median([1.0, 1.0], [1.0, 4.0], [spread, 4 * spread]) == pytest.approx(2.0)
    assert median([1.0], [1.5], [9.0]) == 1.5


@pytest.mark.parametrize(("statistic", "share"), [("p95", 0.95), ("p99", 0.99)])
def test_the_last_few_of_unlike_pipelines_are_those_of_all_requests(
    statistic: str, share: float
) -> None:
    """Lognormal times of 1 and 3 s, drawn three to one; alike ones keep their percentile."""
    sigmas = NormalDist().inv_cdf(share)
    each = [{"median": half, statistic: half * math.exp(0.5 * sigmas)} for half in (1.0, 3.0)]
    found = mixed([3.0, 1.0], each, statistic)
    sooner = [NormalDist(math.log(one["median"]), 0.5).cdf(math.log(found)) for one in each]
    assert (3 * sooner[0] + sooner[1]) / 4 == pytest.approx(share, abs=1e-4)
    assert mixed([3.0, 1.0], [each[0]] * 2, statistic) == pytest.approx(each[0][statistic])


@pytest.mark.parametrize(("seats", "load"), [(1, 0.2), (1, 0.5), (1, 0.8), (4, 0.2)])
def test_late_requests_are_predicted_as_they_are_simulated(seats: int, load: float) -> None:
    """Within a fifth; with equal prompts and one exponential wait they came up to 50 % too soon."""
    world, plan = served(seats)
    flooded = world.model_copy(update={"workload": world.workload.under(1e6)})
    most = predict(flooded, plan).metrics.request_throughput or 0.0
    asked = world.model_copy(update={"workload": world.workload.under(load * most)})
    predicted, simulated = predict(asked, plan).metrics, simulate(asked, plan, 1).metrics
    for name in ("median_ttft_ms", "p95_ttft_ms", "p99_ttft_ms"):
        assert getattr(predicted, name) == pytest.approx(getattr(simulated, name), rel=0.2), name


@pytest.mark.parametrize(("seats", "users"), [(2, 12), (4, 24)])
def test_users_without_a_seat_wait_about_as_long_as_each_other(seats: int, users: int) -> None:
    """Within a tenth; with exponential waits p95 came twice as late, medians 28 % too soon."""
    world, plan = served(seats)
    closed = Closed(kind="closed", concurrency=users)
    workload = world.workload.model_copy(update={"arrivals": closed})
    asked = world.model_copy(update={"workload": workload})
    predicted, simulated = predict(asked, plan).metrics, simulate(asked, plan, 1).metrics
    for name in ("median_ttft_ms", "p95_ttft_ms", "p99_ttft_ms"):
        assert getattr(predicted, name) == pytest.approx(getattr(simulated, name), rel=0.1), name


@pytest.mark.parametrize("several", [2.0, 5.0, 20.0])
def test_times_in_a_row_have_the_percentiles_of_a_gamma_variable(several: float) -> None:
    for percent in (50.0, 95.0, 99.0):
        known = gammaincinv(several, percent / 100) / several - 1
        assert erlang(several, percent) == pytest.approx(known, abs=0.02)


def served(seats: int) -> tuple[Problem, Plan]:
    """One node with so many seats, and 3,000 requests of all lengths."""
    linear = Calibration(
        efficiency={"*": Efficiency(bandwidth=1.0, compute=1.0)},
        attention_compute=1e9,
        layer_overhead=1e-4,
        step_overhead=1e-3,
        source="made up for tests",
    )
    world = problem(
        nodes=[Node(id="a", device="chip")],
        devices=[device(memory_bandwidth=1e8, compute={"bf16": 1e9})],
        engine=engine(calibrations=(linear,)),
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=1.0),
            prompt=Lognormal(kind="lognormal", median_tokens=200, sigma=0.8, max_tokens=2000),
            output=Lognormal(kind="lognormal", median_tokens=20, sigma=0.7, max_tokens=100),
            requests=3000,
        ),
    )
    stage = Stage(node="a", start=0, stop=4, quant="bf16")
    plan = Plan(pipelines=(Pipeline(stages=(stage,), max_num_seqs=seats),))
    return world, plan
