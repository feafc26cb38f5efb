"""Sessions of a scenario, from the outside."""

from __future__ import annotations

import pytest

from tests.cli.scene import Scene

TALK = "  sessions: {mean_turns: 3, turns: fixed, think: 2 s, max_tokens: 400}\n"


def test_sessions_are_planned_simulated_and_shown(scene: Scene) -> None:
    path = scene.manifest(TALK)
    said = scene.planner("simulate", path, "--requests", 9, "--check", "--format", "json")
    assert said.code == 0, said.stderr
    (target,) = said.document["targets"]
    assert target["metrics"]["completed"] == 9
    assert target["prefix_cache"] == {"asked_tokens": 0, "found_tokens": 0}
    assert target["metrics"]["total_token_throughput"] == pytest.approx(
        target["metrics"]["output_throughput"] * (3 * (100 + 210 + 320) + 90) / 90
    )
    shown = " ".join(scene.planner("show", path).stdout.split())
    assert "3 turns in the mean, 2 s to think, whole prompts of 210 tokens in the mean" in shown


def test_what_the_cache_had_is_told(scene: Scene) -> None:
    vllm = ("--set", "engine.scheduler=vllm", "--set", "engine.prefix_cache=true")
    path = scene.manifest(TALK)
    said = scene.planner("simulate", path, "--requests", 9, *vllm)
    assert said.code == 0, said.stderr
    assert "prompt tokens found in the cache" in said.stdout


def test_sessions_longer_than_the_context_name_their_line(scene: Scene) -> None:
    said = scene.planner("plan", scene.scenario(TALK.replace("400", "4000")))
    assert said.code == 3
    assert "workload.sessions.max_tokens: sessions of up to 4000 tokens exceed the context" in (
        said.stderr
    )
    said = scene.planner("plan", scene.scenario(TALK.replace("400", "50")))
    assert said.code == 3
    assert "a first turn has up to 110 tokens" in said.stderr


def test_a_run_refuses_sessions(scene: Scene) -> None:
    said = scene.terminal("run", scene.manifest(TALK))
    assert said.code == 2
    assert "sessions are simulated only" in said.stderr


def test_without_a_trace_there_is_nothing_to_scale(scene: Scene) -> None:
    for flag in ("--trace-speed", "--trace-rate"):
        said = scene.planner("simulate", scene.manifest(), flag, 2)
        assert (said.code, said.stdout) == (2, "")
        assert "hint: name it: --trace" in said.stderr


def test_a_trace_comes_with_more_requests(scene: Scene) -> None:
    trace = scene.folder / "trace.csv"
    rows = "".join(f"{index},100,10\n" for index in range(20))
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    path = scene.manifest()
    more = ("--trace", trace, "--trace-rate", 2, "--trace-speed", 4, "--format", "json")
    (target,) = scene.planner("simulate", path, *more).document["targets"]
    assert target["metrics"]["completed"] == 40
    assert target["metrics"]["request_throughput"] == pytest.approx(40 * 4 / 19, rel=0.01)
    more = ("--trace", trace, "--trace-rate", 2, "--requests", 7, "--format", "json")
    (target,) = scene.planner("simulate", path, *more).document["targets"]
    assert target["metrics"]["completed"] == 7
