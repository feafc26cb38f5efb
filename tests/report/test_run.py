"""The report of a run, from steps made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from planner.core.cost import Batch, chip, stage_time, transfer_time
from planner.core.cost.measured import MeasuredStep
from planner.core.forecast import Rehearsal
from planner.core.metrics import Metrics
from planner.core.plan import Pipeline, Plan, Stage
from planner.report.run import RunReport
from planner.report.starts import StageStart
from planner.report.steadiness import Steadiness, steadiness
from planner.report.terms import Term, hop_terms, recovery_terms, relative_error, stage_terms
from planner.run.losses import Recovered
from planner.run.steps import Hop, Step
from planner.sim.result import Recovery
from tests.core.world import problem

STAGES = (
    Stage(node="a", start=0, stop=2, quant="bf16"),
    Stage(node="b", start=2, stop=4, quant="bf16"),
)
PLAN = Plan(pipelines=(Pipeline(stages=STAGES),))
SESSIONS = {"started": 4, "completed": 3, "lost": 1}


def report(predicted: Metrics, measured: Metrics, **changes: Any) -> RunReport:
    values: dict[str, Any] = {
        "analytic": predicted,
        "predicted": predicted,
        "measured": measured,
        "stages": (Term("a", "decode", 0.003, 0.004, 100),),
        "hops": (Term("a -> b", "decode", 0.020, 0.0205, 100, "a", "b"),),
        "coordinator": (Term("coordinator", "decode", 1e-4, 2e-4, 100),),
        "sessions": SESSIONS,
        "threads": 1,
    }
    return RunReport(**(values | changes))


def read(shown: RunReport) -> str:
    console = Console(width=120, markup=False, highlight=False, no_color=True)
    with console.capture() as captured:
        for part in shown.text():
            console.print(part)
    return captured.get()


def test_errors_are_signed_and_need_both_figures() -> None:
    assert relative_error(9.0, 10.0) == pytest.approx(-0.1)
    assert relative_error(None, 10.0) is None
    assert relative_error(1.0, 0.0) is None
    shown = report(
        Metrics(mean_tpot_ms=9.0, mean_ttft_ms=1.0, usd_per_hour=1.0),
        Metrics(mean_tpot_ms=10.0, output_throughput=5.0, usd_per_hour=2.0),
    )
    assert shown.error == {"mean_tpot_ms": pytest.approx(-0.1)}


def test_what_is_unknown_is_beyond_every_limit() -> None:
    both = {"mean_ttft_ms": 10.0, "output_throughput": 10.0}
    shown = report(Metrics(mean_tpot_ms=9.0, **both), Metrics(mean_tpot_ms=10.0, **both))
    assert list(shown.beyond(0.05)) == ["mean_tpot_ms"]
    assert shown.beyond(0.15) == {}
    unknown = report(Metrics(**both), Metrics(**both))
    assert unknown.beyond(0.15) == {"mean_tpot_ms": None}


def test_the_term_that_brought_most_error_is_named() -> None:
    metrics = Metrics(mean_tpot_ms=9.0)
    text = read(report(metrics, metrics, answers=(("Who?", "Me."),)))
    assert "> Who?\nMe." in text
    assert "3 of 4 requests completed, 1 lost" in text
    assert "Furthest off: decode at a, 3 ms predicted and 4 ms measured, 100 times." in text


def test_a_restless_host_and_its_part_of_the_error_are_told() -> None:
    measured = Metrics(mean_tpot_ms=10.0, mean_ttft_ms=10.0, output_throughput=10.0)
    calm = Steadiness(("a", "b"), 0.02, 2.5, 6.0, 0.01, 0.08, -0.04)
    restless = Steadiness(("c",), 0.2, 2.5, 6.0, 0.1, 0.08, 0.06)
    shown = report(
        Metrics(mean_tpot_ms=9.0, mean_ttft_ms=9.0, output_throughput=11.0),
        measured,
        hindsight=Metrics(mean_tpot_ms=9.9, mean_ttft_ms=9.8, output_throughput=10.1),
        steadiness=(calm, restless),
    )
    text = " ".join(read(shown).split())
    assert "The speed of the host of a, b wandered by 2.0% in the 2.5 s before the run" in text
    assert "Steps of the run took 4.0% less time there than rehearsed." in text
    assert "Steps of the run took 6.0% more time there than rehearsed." in text
    assert not calm.restless
    assert restless.restless
    assert "wandered by 20%" in restless.warning
    assert "mean time per output token -1.0% instead of -10.0%" in text
    document = shown.document()
    assert [host["unavoidable_error"] for host in document["steadiness"]] == [0.01, 0.1]
    assert document["hindsight_error"]["output_throughput"] == pytest.approx(0.01)


def test_drift_is_what_the_same_steps_took_in_the_run_over_the_rehearsal() -> None:
    world = problem()
    stage, batch = STAGES[0], Batch.decode(2, 100)

    def steps(seconds: float, host: str = "") -> dict[str, Rehearsal]:
        device, quant = world.cluster.device(stage.node), world.quant(stage.quant)
        step = MeasuredStep(device, world.model, 0, 2, quant, batch, seconds)
        return {stage.node: Rehearsal(((step,), (step,)), 2.5, host)}

    (told,) = steadiness(world, steps(0.01, "box"), steps(0.012), run_s=6.0)
    assert told.drift == pytest.approx(0.2)
    assert told.wander == pytest.approx(0.0, abs=1e-6)
    assert told.nodes == (stage.node,)
    assert not told.restless
    (unknown,) = steadiness(world, steps(0.01), {}, run_s=6.0)
    assert unknown.drift is None


def test_the_document_has_the_keys_of_the_contract() -> None:
    metrics = Metrics(mean_tpot_ms=9.0)
    document = report(metrics, metrics).document()
    assert {"predicted", "measured", "error", "sessions", "recoveries", "verification"} <= set(
        document
    )
    assert document["sessions"] == SESSIONS
    assert document["verification"]["enabled"] is False
    assert {key: document["hops"][0][key] for key in ("src", "dst")} == {"src": "a", "dst": "b"}
    assert document["stages"][0]["error"] == pytest.approx(-0.25)


def test_stages_are_judged_by_the_batches_that_ran() -> None:
    world = problem()
    steps = [
        Step(0, "prefill", 1, 100, 0, 0.1, 1.0, 1.5),
        Step(1, "decode", 1, 1, 100, 0.1, 2.0, 2.1),
        Step(2, "decode", 1, 1, 300, 0.1, 3.0, 3.3),
    ]
    run: Any = SimpleNamespace(stage=STAGES[0], steps=steps)
    decode, prefill = stage_terms(world, [run])
    assert (decode.where, decode.phase, decode.steps) == ("a", "decode", 2)
    assert decode.measured_s == pytest.approx(0.2)
    assert prefill.measured_s == pytest.approx(0.5)
    times = [
        stage_time(
            world.model, 0, 2, world.quant("bf16"), chip(world, "a"), Batch.decode(1, tokens)
        ).total_s
        for tokens in (100, 300)
    ]
    assert decode.predicted_s == pytest.approx(sum(times) / 2)


def test_hops_are_judged_by_what_went_over_them() -> None:
    world = problem()
    ways = [("a", "a"), ("a", "b"), ("b", "a")]
    runs: list[Any] = [
        SimpleNamespace(
            pipeline=0,
            src=src,
            dst=dst,
            hops=[Hop(0, "decode", 3, 3, 0.5), Hop(1, "decode", 3, 3, 0.7)],
        )
        for src, dst in ways
    ]
    home, there, back = hop_terms(world, PLAN, runs)
    assert there.measured_s == pytest.approx(0.6)
    link = world.cluster.link("a", "b")
    hidden = 3 * 64 * 16 / 8
    assert there.predicted_s == pytest.approx(transfer_time(link, hidden, world.engine).total_s)
    assert home.predicted_s == pytest.approx(world.engine.hop_s)
    assert (back.src, back.dst) == ("b", "a")


def test_a_recovery_says_what_was_computed_again() -> None:
    replays = tuple(Step(0, "prefill", 1, 80, 0, 0.0, at, at + 0.03) for at in (2.0, 2.03))
    lost = Recovered(0, 1, "b", "c", 1.9, 1.95, 2.08, True, replays)
    (one,) = recovery_terms([lost], [Recovery(0, 1, "c", 1.9, 1.96, 2.06, 0.066)])
    told = one.document()
    assert told["recover_ms"] == pytest.approx(130.0)
    assert told["predicted_recover_ms"] == pytest.approx(100.0)
    assert told["replay_ms"] == pytest.approx(60.0)
    assert told["predicted_replay_ms"] == pytest.approx(66.0)
    shown = report(Metrics(), Metrics(), recoveries=(one,))
    assert "of it computing again 66 ms and 60 ms" in read(shown)
    (unknown,) = recovery_terms([lost], [])
    assert unknown.document()["predicted_replay_ms"] is None


def test_how_stages_came_to_be_ready_is_told() -> None:
    starts = (
        StageStart("a", 0, 2, 2.34, {"packed": True, "compiled": False}),
        StageStart("b", 2, 4, 51.2, {"packed": False, "compiled": True}),
    )
    shown = report(Metrics(), Metrics(), starts=starts)
    assert "Time until stages were held: a 2.3 s, b 51.2 s with compiled steps" in read(shown)
    told = shown.document()["starts"]
    assert [one["kernels"]["compiled"] for one in told] == [False, True]
