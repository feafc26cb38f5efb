"""A run beside what was predicted and simulated of the same requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.core.metrics import Metrics
    from planner.core.plan import Plan
    from planner.core.prediction import Prediction
    from planner.core.problem import Problem
    from planner.core.workload import Request
    from planner.report.run import RunReport
    from planner.report.steadiness import Steadiness
    from planner.run.measurement import Measurement
    from planner.sim.result import Recovery, SimResult


@dataclass(frozen=True, slots=True)
class Job:
    """What is executed and simulated."""

    problem: Problem
    plan: Plan
    requests: Sequence[Request]
    texts: list[str] | None
    seed: int


@dataclass(frozen=True, slots=True)
class Beside:
    """A run with what was predicted and simulated of the same requests."""

    job: Job
    prediction: Prediction
    simulated: SimResult
    measurement: Measurement
    measured: Metrics
    as_found: Problem
    """The job's problem on hosts as fast as they were found to be when the run began."""
    planned: SimResult | None = None
    """With the speeds of the profiles, where the hosts were read."""
    hindsight: Metrics | None = None
    """Of a simulation with steps as fast as they were in the run, where the hosts were read."""

    @property
    def recoveries(self) -> list[Recovery]:
        """Lost stages that came to work again in the run, as the simulator tells them."""
        from planner.sim.result import Recovery

        return [
            Recovery(
                pipeline=one.pipeline,
                stage=one.stage,
                node=one.replacement,
                lost_s=one.lost_s,
                detected_s=one.found_s,
                recovered_s=one.recovered_s,
            )
            for one in self.measurement.recoveries
        ]


def put_beside(job: Job, measurement: Measurement) -> Beside:
    """The run beside a prediction and a simulation of the requests as they turned out to be.

    Both with what the hosts were found to reach when the run began, where they were read.
    """
    from planner.cli.struck import struck
    from planner.core.drift import as_found
    from planner.core.metrics import summarise
    from planner.plan.predict import predict
    from planner.run.rehearsal import in_run
    from planner.sim.simulate import simulate

    job = _as_asked(job, measurement)

    def simulation(problem: Problem) -> SimResult:
        return simulate(struck(problem, measurement), job.plan, job.seed, job.requests)

    found, planned, hindsight = job.problem, None, None
    simulated = simulation(job.problem)
    if measurement.speeds:
        ahead_s = simulated.simulated_s
        found = as_found(job.problem, measurement.speeds, measurement.paces, ahead_s)
    if found is not job.problem:
        planned, simulated = simulated, simulation(found)
        during = in_run(job.problem, measurement)
        hindsight = simulation(as_found(job.problem, measurement.speeds, during)).metrics
    bounds = job.problem.requirements.must_have.latency_bounds_s()
    return Beside(
        job=job,
        prediction=predict(found, job.plan),
        simulated=simulated,
        measurement=measurement,
        measured=summarise(measurement.records, bounds, simulated.metrics.usd_per_hour),
        as_found=found,
        planned=planned,
        hindsight=hindsight,
    )


def report_of(beside: Beside) -> RunReport:
    """What the run and its prediction say."""
    from planner.report.drafts import draft_findings
    from planner.report.hosts import host_speeds, step_speeds
    from planner.report.run import RunReport
    from planner.report.starts import stage_starts
    from planner.report.terms import (
        coordinator_terms,
        draft_terms,
        hop_terms,
        recovery_terms,
        stage_terms,
    )
    from planner.report.verified import verification_terms

    job, measurement = beside.job, beside.measurement
    status = [record.status for record in measurement.records]
    reasons = [record.reason for record in measurement.records]
    answers = (
        tuple(
            (text, measurement.texts.get(record.id, ""))
            for text, record in zip(job.texts, measurement.records, strict=True)
        )
        if job.texts
        else ()
    )
    return RunReport(
        analytic=beside.prediction.metrics,
        predicted=beside.simulated.metrics,
        measured=beside.measured,
        starts=stage_starts(measurement.stages),
        stages=stage_terms(beside.as_found, measurement.stages),
        hops=hop_terms(beside.as_found, job.plan, measurement.hops),
        coordinator=coordinator_terms(beside.as_found, measurement),
        sessions={
            "started": len(status),
            "completed": status.count("completed"),
            "lost": len(status) - status.count("completed"),
        },
        threads=measurement.threads,
        answers=answers,
        recoveries=recovery_terms(measurement.recoveries, beside.simulated.recoveries),
        verification=verification_terms(
            measurement.verified,
            beside.simulated.verification,
            beside.simulated.simulated_s,
        ),
        planned=beside.planned.metrics if beside.planned else None,
        hosts=host_speeds(job.problem, measurement.speeds),
        rehearsed=step_speeds(
            job.problem,
            measurement.paces,
            beside.planned.simulated_s if beside.planned else math.inf,
        ),
        hindsight=beside.hindsight,
        steadiness=_steadiness(beside),
        draft=draft_terms(beside.as_found, measurement),
        drafts=draft_findings(job.problem, measurement.drafts),
        unserved=next((reason for reason in reasons if "nothing replaced" in reason), ""),
    )


def _steadiness(beside: Beside) -> tuple[Steadiness, ...]:
    """Of the hosts, where stages rehearsed."""
    from planner.report.steadiness import steadiness
    from planner.run.rehearsal import in_run

    problem, measurement = beside.job.problem, beside.measurement
    if not measurement.paces:
        return ()
    last_s = max((max(one.token_s, default=0.0) for one in measurement.records), default=0.0)
    return steadiness(problem, measurement.paces, in_run(problem, measurement), last_s)


def _as_asked(job: Job, measurement: Measurement) -> Job:
    """The job with the lengths that the texts had; how long an answer is shows only then."""
    from planner.core.workload import Fixed, Request

    if job.texts is None:
        return job
    requests = [
        Request(asked.id, asked.arrival_s, record.prompt_tokens, record.output_tokens)
        for asked, record in zip(job.requests, measurement.records, strict=True)
        if record.status == "completed"
    ]
    if not requests:
        return job
    prompt = sum(request.prompt_tokens for request in requests) // len(requests)
    output = sum(request.output_tokens for request in requests) // len(requests)
    lengths = {"prompt": Fixed(tokens=max(1, prompt)), "output": Fixed(tokens=max(1, output))}
    workload = job.problem.workload.model_copy(update=lengths)
    problem = job.problem.model_copy(update={"workload": workload})
    return replace(job, problem=problem, requests=requests)


def write_measured_trace(path: Path, beside: Beside) -> None:
    """The trace of a run, for Perfetto."""
    from planner.cli.outputs import write_trace
    from planner.report.trace import Course, measured_spans

    problem, plan, measurement = beside.job.problem, beside.job.plan, beside.measurement
    spans = list(measured_spans(problem, plan, measurement))
    course = Course("measured", problem, plan, spans, measurement.records, beside.recoveries)
    write_trace(path, course)
