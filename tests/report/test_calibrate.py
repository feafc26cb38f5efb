from __future__ import annotations

from planner.core.cost.estimate import Load
from planner.core.cost.measured import MeasuredSpeed
from planner.fit.bands import Judged
from planner.report.calibrate import tails
from tests.core.world import device, model, quant


def judged(model_id: str, *errors: float, count: int = 1) -> list[Judged]:
    of = model(id=model_id)
    row = MeasuredSpeed(device(), count, of, quant(), Load(1, 1), "decode_tok_s", 1.0)
    return [Judged("engine", row, error, error, error, error) for error in errors]


def test_the_tail_is_named_where_more_than_a_quarter_is_in_it() -> None:
    rows = [
        *judged("plain", *[0.1] * 50, 0.5),
        *judged("odd", *[0.9] * 8, 0.1, count=2),
        *judged("few", -0.8, -0.8),
    ]
    tail, by_box = tails(rows)
    assert (tail.speed, tail.median) == ("decode_tok_s", 0.1)
    assert tail.p90 > 0.25
    assert tail.groups == (("engine", "odd", 9, 8),)
    assert (tail.rest_rows, tail.rest_p90) == (53, 0.1)
    assert by_box.groups == (("engine", f"2 x {device().id}", 9, 8),)


def test_without_a_tail_nothing_is_named() -> None:
    assert [tail.groups for tail in tails(judged("plain", *[0.1] * 20, 0.9))] == [(), ()]
