from __future__ import annotations

from planner.core.plan import Pipeline, Plan, Stage
from planner.core.schedule import Job, PipelineSchedule, Router
from planner.run.prompts import Running


def seen(jobs: list[Job[Running]]) -> list[tuple[str, int, list[int]]]:
    return [(job.phase, job.group, [s.id for s in job.sequences]) for job in jobs]


def schedule_of(seats: int, groups: int, arrivals: int) -> PipelineSchedule[Running]:
    schedule = PipelineSchedule[Running](seats, groups)
    for index in range(arrivals):
        schedule.add(Running(index, [1]))
    return schedule


def test_prompts_go_first_come_first_served_as_far_as_there_are_seats() -> None:
    schedule = schedule_of(seats=2, groups=1, arrivals=3)
    first = schedule.next_jobs()
    assert seen(first) == [("prefill", 0, [0]), ("prefill", 0, [1])]
    assert schedule.next_jobs() == []
    schedule.back(first[0])
    assert schedule.next_jobs() == [], "the group waits for all of its first tokens"
    schedule.back(first[1])
    assert seen(schedule.next_jobs()) == [("decode", 0, [0, 1])]


def test_a_freed_seat_is_taken_before_the_next_decode_step() -> None:
    schedule = schedule_of(seats=2, groups=1, arrivals=3)
    jobs = schedule.next_jobs()
    for job in jobs:
        schedule.back(job)
    leaving = jobs[0].sequences[0]
    schedule.leave(leaving)
    (third,) = schedule.next_jobs()
    assert seen([third]) == [("prefill", 0, [2])]
    assert third.sequences[0].slot == leaving.slot
    schedule.back(third)
    assert seen(schedule.next_jobs()) == [("decode", 0, [1, 2])]


def test_idle_groups_with_the_fewest_sequences_admit() -> None:
    schedule = schedule_of(seats=4, groups=2, arrivals=3)
    jobs = schedule.next_jobs()
    assert seen(jobs) == [("prefill", 0, [0]), ("prefill", 1, [1]), ("prefill", 0, [2])]
    schedule.back(jobs[1])
    (decode,) = schedule.next_jobs()
    assert seen([decode]) == [("decode", 1, [1])]
    schedule.add(Running(3, [1]))
    assert schedule.next_jobs() == [], "no group is idle"
    schedule.back(jobs[0])
    schedule.back(jobs[2])
    assert seen(schedule.next_jobs()) == [("prefill", 0, [3])]


def test_seats_are_never_shared_and_all_come_back() -> None:
    schedule = schedule_of(seats=3, groups=2, arrivals=10)
    taken: set[int] = set()
    done = []
    while not schedule.idle:
        for job in schedule.next_jobs():
            if job.phase == "prefill":
                assert job.sequences[0].slot not in taken
                taken.add(job.sequences[0].slot)
            schedule.back(job)
            if job.phase == "decode":
                for sequence in job.sequences:
                    taken.remove(sequence.slot)
                    schedule.leave(sequence)
                    done.append(sequence.id)
    assert sorted(done) == list(range(10))
    assert not taken


def router(*weights: float) -> Router:
    return Router(
        Plan(
            pipelines=tuple(
                Pipeline(
                    stages=(Stage(node=f"n{index}", start=0, stop=4, quant="bf16"),), weight=weight
                )
                for index, weight in enumerate(weights)
            )
        )
    )


def test_requests_go_where_least_is_to_do() -> None:
    routes = router(1, 1)
    assert [routes.assign() for _ in range(4)] == [0, 1, 0, 1]
    routes.leave(1)
    routes.leave(1)
    assert [routes.assign() for _ in range(3)] == [1, 1, 0]


def test_weights_split_what_is_present_and_idle_pipelines_take_turns_by_them() -> None:
    routes = router(3, 1)
    assert sorted(routes.assign() for _ in range(8)) == [0, 0, 0, 0, 0, 0, 1, 1]
    calm = router(2, 1)
    chosen = []
    for _ in range(6):
        chosen.append(calm.assign())
        calm.leave(chosen[-1])
    assert chosen == [0, 0, 1, 0, 0, 1]


def test_only_the_pipelines_that_are_open_get_requests() -> None:
    routes = router(1, 1, 1)
    assert [routes.assign([2]) for _ in range(3)] == [2, 2, 2]
    assert routes.assign() == 0
