"""Conversations of several turns."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.sessions import Sessions
from planner.core.workload import Closed, Fixed, Lognormal, Poisson, Request, Workload


def talk(**changes: object) -> Workload:
    """Three turns of 10 prompt and 5 output tokens."""
    values: dict[str, object] = {
        "arrivals": Poisson(kind="poisson", rate=2.0),
        "prompt": Fixed(tokens=10),
        "output": Fixed(tokens=5),
        "sessions": Sessions(mean_turns=3, turns="fixed", think_s=4.0, max_tokens=100),
        "requests": 9,
    }
    return Workload.model_validate(values | changes)


def by_session(requests: tuple[Request, ...]) -> list[list[Request]]:
    grouped = itertools.groupby(requests, key=lambda one: one.session)
    return [list(turns) for _, turns in grouped]


def test_every_prompt_begins_with_all_that_was_said() -> None:
    for first, second, third in by_session(talk().sample(1)):
        assert [one.prompt_tokens for one in (first, second, third)] == [10, 25, 40]
        assert [one.shared_tokens for one in (first, second, third)] == [0, 15, 30]
        assert (first.after, second.after, third.after) == (None, first.id, second.id)
        assert first.think_s == 0.0 < second.think_s


def test_what_to_expect_of_prompts_is_known_before() -> None:
    workload = talk()
    assert workload.prompts.mean_tokens == 25.0
    assert workload.turns_per_session == 3.0
    assert (workload.longest_tokens, workload.longest_prompt_tokens) == (100, 100)
    alone = workload.model_copy(update={"sessions": None})
    assert alone.prompts.mean_tokens == 10.0
    assert (alone.longest_tokens, alone.turns_per_session) == (15, 1.0)


def test_the_rate_counts_requests() -> None:
    requests = talk(requests=30_000).sample(2)
    begins_s = [one.arrival_s for one in requests if one.after is None]
    assert len(requests) / begins_s[-1] == pytest.approx(2.0, rel=0.03)


@settings(max_examples=30)
@given(
    turns=st.floats(1, 8),
    kind=st.sampled_from(["geometric", "fixed"]),
    most=st.integers(250, 900),
    seed=st.integers(0, 9),
)
def test_no_session_is_longer_than_it_may_be(turns: float, kind: str, most: int, seed: int) -> None:
    workload = talk(
        prompt=Lognormal(kind="lognormal", median_tokens=30, sigma=1, max_tokens=150),
        output=Lognormal(kind="lognormal", median_tokens=20, sigma=1, max_tokens=100),
        sessions={"mean_turns": turns, "turns": kind, "max_tokens": most},
        requests=200,
    )
    requests = workload.sample(seed)
    assert [one.id for one in requests] == list(range(200))
    assert max(one.prompt_tokens + one.output_tokens for one in requests) <= most
    assert all(one.prompt_tokens > one.shared_tokens for one in requests)
    assert workload.sample(seed) == requests


def test_geometric_sessions_have_their_mean() -> None:
    workload = talk(
        sessions={"mean_turns": 4, "max_tokens": 10_000}, requests=20_000, prompt=Fixed(tokens=1)
    )
    turns = [len(one) for one in by_session(workload.sample(0))]
    assert sum(turns) / len(turns) == pytest.approx(4.0, rel=0.05)
    assert turns.count(1) / len(turns) == pytest.approx(0.25, abs=0.02)


def test_users_with_much_in_mind_fill_their_sessions() -> None:
    workload = talk(sessions={"mean_turns": 1e300, "max_tokens": 100}, requests=50)
    turns = [len(one) for one in by_session(workload.sample(0))]
    assert set(turns[:-1]) == {100 // 15}
    alone = talk(sessions={"mean_turns": 1, "max_tokens": 100}, requests=50)
    assert {len(one) for one in by_session(alone.sample(0))} == {1}


def test_a_first_turn_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"up to 15 tokens, which are more than the 12"):
        talk(sessions={"mean_turns": 2, "max_tokens": 12})


def test_other_draws_do_not_change_because_there_are_sessions() -> None:
    alone = talk(sessions=None, arrivals=Closed(kind="closed", concurrency=1)).sample(3)
    turns = talk(arrivals=Closed(kind="closed", concurrency=1)).sample(3)
    assert [one.output_tokens for one in alone] == [one.output_tokens for one in turns]
    assert {one.arrival_s for one in turns} == {0.0}
