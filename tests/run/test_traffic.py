from __future__ import annotations

from planner.run.prompts import Running
from planner.run.traffic import Traffic
from tests.run.world import pipeline, plan


def test_a_job_that_nobody_waits_for_is_not_sent_again_and_keeps_no_group_waiting() -> None:
    traffic = Traffic(plan(pipeline(["w0"], 4, max_num_seqs=1)))
    first, second = Running(1, [5]), Running(2, [6])
    traffic.add(first)
    ((index, job),) = traffic.next_jobs()
    traffic.sent(1, index, job)
    traffic.sent(2, index, job)
    assert traffic.back(1) is job
    traffic.leave(first, completed=True)
    traffic.interrupt(0)
    traffic.add(second)
    assert traffic.resume(0) == []
    assert [job.sequences for _, job in traffic.next_jobs()] == [(second,)]
