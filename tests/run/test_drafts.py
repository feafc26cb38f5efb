from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.problem import Problem, Serving
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Fixed, Request, Workload
from planner.run.checkpoint import open_checkpoint
from planner.run.drafter import Drafter
from planner.run.drafts import Wish, look_up
from planner.run.execute import execute
from planner.run.frames import Seat
from planner.run.losses import Loss
from planner.run.measurement import Measurement
from planner.run.prompts import Running
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup
from tests.run.world import chain, checkpoint, greedy, pipeline, plan, problem, spec


def test_what_followed_the_latest_tokens_last_time_is_the_guess() -> None:
    assert look_up([1, 2, 3, 9, 8, 1, 2, 3], 4) == [9, 8, 1, 2]
    assert look_up([7, 5, 6, 4, 5, 6, 3, 5, 6], 2) == [3, 5]
    assert look_up([1, 2, 3, 4], 4) == []
    assert look_up([], 4) == []


def test_guesses_are_right_until_one_is_wrong_and_then_all_are_void() -> None:
    one = Running(0, [1, 2], output_ids=[3], cached=2)
    assert (one.sent, one.ids) == (2, [1, 2, 3])
    one.ahead, one.under_way = [4, 5], 2
    assert (one.sent, one.ids) == (5, [1, 2, 3, 4, 5])
    assert one.confirm(4) is True
    one.cached, one.output_ids = 3, [3, 4]
    assert one.sent == 5
    assert one.confirm(9) is False
    one.cached, one.output_ids = 4, [3, 4, 9]
    assert (one.sent, one.ahead, one.under_way, one.turn) == (4, [], 0, 1)
    assert one.confirm(7) is None


def test_a_drafter_says_what_its_model_says_whatever_it_guessed_before(tmp_path: Path) -> None:
    """Sequences of unlike length in one batch, wrong guesses rolled back, a seat that changes."""
    opened = checkpoint(tmp_path)
    drafter = Drafter(opened, "fp32", [1, 2], 64)
    stages = chain(opened, [])
    first, second = [5, 9, 200, 31], [7, 8]

    def wish(ids: list[int], most: int, slot: int, session: int) -> Wish:
        return Wish(ids, most, Seat(slot, 0, session=session))

    drafter.read(1, wish(first, 0, 0, 1))
    for grown in ([], [250], [250, 3, 17], [251]):
        ids = first + grown
        wishes = [wish(ids, 4, 0, 1), wish(second + grown, 2, 1, 2)]
        wanted = [greedy(stages, ids, 4), greedy(stages, second + grown, 2)]
        assert drafter.guess(1, wishes) == wanted
    assert drafter.guess(1, [wish(second, 3, 0, 3)]) == [greedy(stages, second, 3)]
    assert drafter.guess(0, [wish(second, 0, 0, 4)]) == [[]]


def test_a_drafter_draws_what_the_last_stage_draws(tmp_path: Path) -> None:
    """Answers with a temperature use the random numbers of their places; guesses do, too."""
    from planner.run.sampling import pick
    from tests.run.world import prefill

    opened = checkpoint(tmp_path)
    drafter, stages = Drafter(opened, "fp32", [1], 64), chain(opened, [])
    seat, ids, drawn = Seat(0, 0, 1.5, 0.9, 77), [3, 1, 4], list[int]()
    for _ in range(5):
        logits = prefill(stages, ids + drawn)
        place = seat._replace(position=len(ids + drawn) - 1)
        drawn.append(int(pick(logits, [place], 1)))
    assert drafter.guess(0, [Wish(ids, 5, seat)]) == [drawn]
    assert len(set(drawn)) > 2


MODEL = spec(vocab_size=258)
STRUCK = Loss("w1", 0.1, 0.0)


def world(draft: int = 3, checks: int = 1, users: int = 2, model: bool = False) -> Problem:
    """Two stages, four requests of 8 + 50 tokens; the draft has half of the layers."""
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=users),
        prompt=Fixed(tokens=8),
        output=Fixed(tokens=50),
        requests=4,
    )
    said = Speculation(
        draft_tokens=draft, acceptance=0.3, draft_token=1e-3, checks_in_flight=checks
    )
    more = {"draft": spec(id="half", vocab_size=258, num_hidden_layers=2)} if model else {}
    serving = Serving(speculation=said, detect_s=2.0)
    return problem(3, MODEL, workload=workload, serving=serving, **more)


def run(tmp_path: Path, asked: Problem, losses: tuple[Loss, ...] = ()) -> Measurement:
    """What came of it, each answer being what the model says without drafts."""
    folder = make_checkpoint(tmp_path / "m", MODEL, dtype="fp32")
    draft = None
    if asked.draft is not None:
        draft = make_checkpoint(tmp_path / "d", asked.draft, dtype="fp32")
    setup = Setup(asked, plan(pipeline(["w0", "w1"], 4)), folder, threads=1, draft=draft)
    found = execute(setup, asked.workload.sample(0), losses=losses)
    assert [record.status for record in found.records] == ["completed"] * 4
    stages = chain(open_checkpoint(folder), [])
    for key, prompt in found.prompts.items():
        assert found.outputs[key] == greedy(stages, prompt, 50)
        assert len(found.records[key].token_s) == 50
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", [False, True], ids=["looked up", "model"])
@pytest.mark.parametrize("checks", [1, 4])
@pytest.mark.parametrize("losses", [(), (STRUCK,)], ids=["calm", "struck"])
def test_greedy_answers_are_the_same(
    tmp_path: Path, model: bool, checks: int, losses: tuple[Loss, ...]
) -> None:
    found = run(tmp_path, world(checks=checks, model=model), losses)
    (tally,) = found.drafts
    assert tally.accepted > 0
    assert tally.refused > 0
    assert (tally.void > 0) == (checks > 1)
    if checks == 1 and not losses:
        assert tally.checks + tally.accepted == 4 * 50 - 4
    phases = {step.phase for step in found.drafted[0]}
    assert phases == ({"prefill", "decode"} if model else set())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["llama", "qwen3"])
@pytest.mark.parametrize("checks", [1, 4])
def test_answers_with_a_draft_model_are_those_of_transformers(
    tmp_path: Path, case: str, checks: int
) -> None:
    """The draft is the same model with its weights shaken: right often, and wrong often."""
    import copy

    import torch

    from planner.files.hfconfig import read_hf_config
    from planner.run.seeded import _write_tokenizer
    from tests.run.test_transformers import NEW, reference, saved

    whole, _ = saved(tmp_path / "m", case)
    shaken = copy.deepcopy(whole)
    with torch.no_grad():
        for parameter in shaken.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * 0.03)
    shaken.save_pretrained(tmp_path / "d")
    for name in ("m", "d"):
        _write_tokenizer(tmp_path / name / "tokenizer.json", 300)
    said = Speculation(draft_tokens=4, acceptance=0.5, draft_token_s=1e-3, checks_in_flight=checks)
    asked = problem(
        3,
        read_hf_config(tmp_path / "m", "m"),
        draft=read_hf_config(tmp_path / "d", "d"),
        serving=Serving(speculation=said),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=21),
            output=Fixed(tokens=NEW),
        ),
    )
    chosen = plan(pipeline(["w0", "w1"], 4))
    found = execute(
        Setup(asked, chosen, tmp_path / "m", threads=1, draft=tmp_path / "d"),
        [Request(index, 0.0, tokens, NEW) for index, tokens in enumerate((2, 7, 13, 21))],
    )
    for index, prompt in found.prompts.items():
        assert found.outputs[index] == reference(whole, prompt)[0]
    assert 0.2 < (found.drafts[0].acceptance or 0) < 0.98
