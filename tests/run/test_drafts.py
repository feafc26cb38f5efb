from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.problem import Serving
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Fixed, Workload
from planner.run.checkpoint import open_checkpoint
from planner.run.drafts import kept, look_up
from planner.run.execute import execute
from planner.run.losses import Loss
from planner.run.seeded import make_checkpoint
from tests.run.world import chain, greedy, pipeline, plan, problem, spec


def test_what_followed_the_latest_tokens_last_time_is_the_guess() -> None:
    assert look_up([1, 2, 3, 9, 8, 1, 2, 3], 4) == [9, 8, 1, 2]
    assert look_up([7, 5, 6, 4, 5, 6, 3, 5, 6], 2) == [3, 5]
    assert look_up([1, 2, 3, 4], 4) == []
    assert look_up([], 4) == []


def test_drafts_are_kept_until_the_first_that_is_wrong() -> None:
    assert kept([4, 5, 6], [4, 5, 9, 1]) == (4, 5, 9)
    assert kept([4, 5, 6], [4, 5, 6, 1]) == (4, 5, 6, 1)
    assert kept([4], [3, 1]) == (3,)
    assert kept([], [3]) == (3,)


@pytest.mark.slow
@pytest.mark.parametrize("losses", [(), (Loss("w1", 0.3, 0.0),)], ids=["calm", "struck"])
def test_greedy_answers_are_the_same_in_fewer_steps(
    tmp_path: Path, losses: tuple[Loss, ...]
) -> None:
    model = spec(vocab_size=258)
    folder = make_checkpoint(tmp_path / "m", model, dtype="fp32")
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=2),
        prompt=Fixed(tokens=8),
        output=Fixed(tokens=50),
        requests=4,
    )
    serving = Serving(speculation=Speculation(draft_tokens=3, acceptance=0.3), detect_s=2.0)
    world = problem(2, model, workload=workload, serving=serving)
    run = execute(
        world,
        plan(pipeline(["w0", "w1"], 4)),
        world.workload.sample(0),
        folder,
        threads=1,
        losses=losses,
    )
    assert [record.status for record in run.records] == ["completed"] * 4
    stages = chain(open_checkpoint(folder), [])
    for key, prompt in run.prompts.items():
        assert run.outputs[key] == greedy(stages, prompt, 50)
        assert len(run.records[key].token_s) == 50
