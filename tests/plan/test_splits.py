"""Splits: the cheapest sets of nodes, when some were refused."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from planner.plan.splits import Splits
from planner.plan.tables import State

MOST: State = (3, 2, 1)
STATES = [state for state in itertools.product(*(range(count + 1) for count in MOST)) if any(state)]
COSTS = st.dictionaries(
    st.sampled_from(STATES), st.sampled_from([-2.0, 0.0, 1.0, 2.5, 4.0, 7.25, math.inf])
)


@given(COSTS, st.integers(1, 4), st.booleans(), st.data())
def test_no_split_that_is_left_is_cheaper(
    costs: dict[State, float], parts: int, maximum: bool, data: st.DataObject
) -> None:
    join = max if maximum else sum
    every = {
        tuple(sorted(split)): join(costs[state] for state in split)
        for split in itertools.combinations_with_replacement(sorted(costs), parts)
        if all(sum(each[kind] for each in split) <= most for kind, most in enumerate(MOST))
    }
    ranked = sorted(split for split, cost in every.items() if math.isfinite(cost))
    refused = set(data.draw(st.lists(st.sampled_from(ranked)))) if ranked else set()
    nodes = data.draw(st.integers(1, 6))

    def allowed(union: State) -> bool:
        return sum(union) <= nodes

    cost, split = Splits(costs, parts, MOST, maximum).cheapest(
        allowed, lambda each: each not in refused
    )

    left = {
        each: every[each] for each in ranked if each not in refused and sum(map(sum, each)) <= nodes
    }
    assert cost == min(left.values(), default=math.inf)
    assert left[split] == cost if left else split == ()
