"""vLLM's rules: who computes what in a step, and who holds which blocks."""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.continuous import ContinuousSchedule
from planner.core.kvpool import KvPool
from planner.core.schedule import Job


@dataclass(slots=True, eq=False)
class Asked:
    """A request whose tokens are counted one by one."""

    name: int
    prompt: int
    left: int
    shared_tokens: int = 0
    known_tokens: int = field(init=False)
    cached_tokens: int = 0
    slot: int = -1
    group: int = -1

    def __post_init__(self) -> None:
        self.known_tokens = self.prompt

    @property
    def computed_tokens(self) -> int:
        return self.cached_tokens

    @property
    def owner(self) -> Hashable:
        return self.name


def schedule(
    blocks: int, block: int = 4, seats: int = 8, budget: int = 16
) -> ContinuousSchedule[Asked]:
    return ContinuousSchedule(seats, 1, budget, KvPool(blocks, block))


def compute(rules: ContinuousSchedule[Asked], job: Job[Asked]) -> None:
    """What a step does to the sequences in it."""
    rules.back(job)
    complete = [piece.sequence for piece in job.pieces if piece.completes]
    for piece in job.pieces:
        piece.sequence.cached_tokens += piece.tokens
    for sequence in job.sequences:
        sequence.cached_tokens += 1
    for sequence in (*job.sequences, *complete):
        sequence.known_tokens += 1
        sequence.left -= 1
        if not sequence.left:
            rules.leave(sequence)


def seen(job: Job[Asked]) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Who decodes; whose prompt is computed, after how many tokens, and how many."""
    pieces = [(one.sequence.name, one.cached_tokens, one.tokens) for one in job.pieces]
    return [one.name for one in job.sequences], pieces


def steps(rules: ContinuousSchedule[Asked], most: int) -> list[tuple[list[int], list[object]]]:
    told = []
    for _ in range(most):
        for job in rules.next_jobs():
            told.append(seen(job))
            compute(rules, job)
        for sequence in rules.preempted:
            sequence.shared_tokens, sequence.cached_tokens = sequence.known_tokens, 0
    return told


def test_prompts_share_what_decoding_leaves_of_the_budget() -> None:
    rules = schedule(blocks=100, budget=10)
    for name, prompt in enumerate((6, 9, 2)):
        rules.add(Asked(name, prompt, left=3))
    assert steps(rules, 4) == [
        ([], [(0, 0, 6), (1, 0, 4)]),
        ([0], [(1, 4, 5), (2, 0, 2)]),
        ([0, 1, 2], []),
        ([1, 2], []),
    ]
    assert rules.idle
    assert rules.pool.free == 100


def test_who_came_last_gives_way_and_finds_its_prefix_again() -> None:
    rules = schedule(blocks=4, budget=32)
    rules.add(Asked(0, 7, left=6))
    rules.add(Asked(1, 7, left=6))
    told = steps(rules, 10)
    assert told[:3] == [
        ([], [(0, 0, 7), (1, 0, 7)]),
        ([0, 1], []),
        ([0], []),  # both need a third block: the later one gives its two back
    ]
    assert ([], [(1, 4, 5)]) in told, "the first block is still there, the second was taken"
    assert rules.idle


def test_a_group_goes_on_where_a_step_is_steady_and_has_the_blocks_for_it() -> None:
    told = set()
    for blocks in (4, 5, 6):
        rules = schedule(blocks=blocks, budget=8)
        for name, (prompt, left) in enumerate([(7, 6), (7, 5), (3, 4)]):
            rules.add(Asked(name, prompt, left))
        while not rules.idle:
            (job,) = rules.next_jobs()
            compute(rules, job)
            if rules.seated:
                ahead = deepcopy(rules)
                steady = rules.steady_steps(0, 1)
                assert ahead.goes_on(0) == bool(steady)
                if steady:
                    again = deepcopy(rules)
                    again.repeat(0, 1)
                    assert ahead.pool == again.pool
                    assert ahead.steady_steps(0, 8) == again.steady_steps(0, 8)
                told.add((bool(steady), bool(rules.waiting)))
    assert len(told) == 4, "with and without somebody in line, who has to wait or not"


def test_nobody_is_admitted_whose_whole_prompt_has_no_room() -> None:
    rules = schedule(blocks=5, budget=8)
    rules.add(Asked(0, 8, left=9))
    rules.add(Asked(1, 13, left=1))
    assert steps(rules, 2) == [([], [(0, 0, 8)]), ([0], [])]
    assert not rules.admits()


@settings(max_examples=150, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12),
    block=st.sampled_from([1, 4, 16]),
    spare=st.integers(0, 40),
    budget=st.integers(1, 50),
    seats=st.integers(1, 8),
    keeps=st.booleans(),
)
def test_blocks_are_those_that_the_sequences_hold(
    asked: list[tuple[int, int]], block: int, spare: int, budget: int, seats: int, keeps: bool
) -> None:
    pool = KvPool(-(-(80 + spare) // block), block, keeps)
    rules = ContinuousSchedule[Asked](seats, 1, budget, pool)
    everyone = [Asked(name, *one) for name, one in enumerate(asked)]
    for sequence in everyone:
        rules.add(sequence)
    for _ in range(5000):
        jobs = rules.next_jobs()
        for sequence in rules.preempted:
            sequence.shared_tokens, sequence.cached_tokens = sequence.known_tokens, 0
        for job in jobs:
            assert len(job.sequences) + sum(piece.tokens for piece in job.pieces) <= max(
                budget, seats
            )
            compute(rules, job)
        held = sum(pool.holding(sequence.cached_tokens) for sequence in rules.seated)
        assert pool.blocks - pool.free == held
        assert pool.kept + pool.taken == sum(pool.left.values())
        assert pool.free >= 0
        assert rules.occupied <= seats
        if rules.idle:
            break
    assert all(sequence.left == 0 for sequence in everyone)
    assert pool.free == pool.blocks


def test_pieces_of_a_prompt_are_under_way_in_several_groups_at_once() -> None:
    """vLLM advances a prompt when a piece is sent, so that the next step takes the next one."""
    rules = ContinuousSchedule[Asked](8, 3, 16, KvPool(40, 4))
    long, short = Asked(0, 40, 3), Asked(1, 5, 3)
    rules.add(long)
    rules.add(short)
    jobs = rules.next_jobs()
    told = [
        (job.group, piece.sequence.name, piece.cached_tokens, piece.tokens, piece.completes)
        for job in jobs
        for piece in job.pieces
    ]
    assert told == [
        (0, 0, 0, 16, False),
        (1, 0, 16, 16, False),
        (2, 0, 32, 8, True),
        (2, 1, 0, 5, True),
    ]
    for job in jobs:
        compute(rules, job)
    (after,) = rules.next_jobs()
    assert (after.group, [one.name for one in after.sequences]) == (2, [0, 1])
    assert rules.pool.free == 40 - 11 - 2


def test_a_prompt_whose_pieces_are_under_way_is_not_preempted() -> None:
    """Two pieces are sent, then there are no blocks: it waits for both before it begins anew."""
    rules = ContinuousSchedule[Asked](8, 2, 8, KvPool(10, 4))
    rules.add(Asked(0, 30, 3))
    first, second = rules.next_jobs()
    rules.pool.take(rules.pool.free)
    compute(rules, first)
    assert rules.next_jobs() == []
    assert rules.preempted == []
    compute(rules, second)
    assert rules.next_jobs() == []
    assert [one.name for one in rules.preempted] == [0]
