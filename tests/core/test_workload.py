import random
import statistics

import pytest
from pydantic import ValidationError

from planner.core.request import Request, Requests
from planner.core.rng import stream
from planner.core.workload import (
    Closed,
    Empirical,
    Fixed,
    Lengths,
    Lognormal,
    Poisson,
    Workload,
)


def test_arrivals_and_lengths_are_drawn_from_streams_of_their_own() -> None:
    poisson = Workload(
        arrivals=Poisson(kind="poisson", rate=2),
        prompt=Lognormal(kind="lognormal", median_tokens=100, sigma=1, max_tokens=1000),
        output=Fixed(tokens=10),
        requests=500,
    )
    closed = poisson.model_copy(update={"arrivals": Closed(kind="closed", concurrency=4)})
    first, second = poisson.sample(3), closed.sample(3)
    assert [r.prompt_tokens for r in first] == [r.prompt_tokens for r in second]
    assert {r.arrival_s for r in second} == {0.0}
    mean_gap_s = first[-1].arrival_s / len(first)
    assert mean_gap_s == pytest.approx(0.5, rel=0.15)


def test_requests_by_column_are_the_requests() -> None:
    """However many lengths are drawn at a time."""
    lengths = Lognormal(kind="lognormal", median_tokens=100, sigma=1, max_tokens=1000)
    drawn = Workload(
        arrivals=Poisson(kind="poisson", rate=2),
        prompt=lengths,
        output=Empirical(kind="empirical", tokens=(1, 5, 90)),
        requests=20_000,
    ).sample(3)
    assert [one.prompt_tokens for one in drawn] == lengths.several(stream(3, "prompt"), 20_000)
    one = drawn[19_999]
    assert one == Request(19_999, one.arrival_s, one.prompt_tokens, one.output_tokens)
    assert isinstance(drawn, Requests)
    some = drawn[10:30:5]
    assert [each.id for each in some] == [10, 15, 20, 25]
    assert Requests.of(tuple(some)) == some != drawn[:4]
    assert Requests.of(some) is some
    assert Requests.of([one._replace(session=1)]) is None


def test_the_mean_of_cut_lognormal_lengths_is_what_is_drawn() -> None:
    lengths = Lognormal(
        kind="lognormal", median_tokens=200, sigma=0.9, min_tokens=20, max_tokens=800
    )
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=1),
        prompt=lengths,
        output=Fixed(tokens=1),
        requests=20_000,
    )
    drawn = [request.prompt_tokens for request in workload.sample(0)]
    assert sum(drawn) / len(drawn) == pytest.approx(lengths.mean_tokens, rel=0.01)
    assert (min(drawn), max(drawn)) == (20, 800)


@pytest.mark.parametrize(
    "lengths",
    [
        Fixed(tokens=7),
        Lognormal(kind="lognormal", median_tokens=200, sigma=0.9, min_tokens=20, max_tokens=2000),
        Empirical(kind="empirical", tokens=(1, 5, 5, 90)),
    ],
)
def test_how_uneven_lengths_are_is_what_is_drawn(lengths: Lengths) -> None:
    rng = random.Random(3)
    drawn = [lengths.draw(rng) for _ in range(50_000)]
    mean = statistics.fmean(drawn)
    assert lengths.unevenness == pytest.approx(statistics.pvariance(drawn) / mean**2, abs=0.02)


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="does not hold"):
        Lognormal(kind="lognormal", median_tokens=10, sigma=1, min_tokens=20, max_tokens=30)
