"""``planner run``: executes a plan on local workers, predicted beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.chrometrace import ChromeTraceOption
from planner.cli.console import Format, FormatOption, ProfilesOption
from planner.cli.options import ApiKeyOption, NodesOption, QueueOption, ServeOption
from planner.cli.page import HtmlOption

if TYPE_CHECKING:
    from planner.cli.deployment import Deployment
    from planner.core.metrics import Metrics
    from planner.core.plan import Plan
    from planner.core.prediction import Prediction
    from planner.core.problem import Problem
    from planner.core.workload import Request
    from planner.files.manifest import Manifest
    from planner.report.run import RunReport
    from planner.run.measurement import Measurement
    from planner.sim.result import SimResult


@dataclass(frozen=True, slots=True)
class _Job:
    """What is executed and simulated."""

    problem: Problem
    plan: Plan
    requests: Sequence[Request]
    texts: list[str] | None
    seed: int


@dataclass(frozen=True, slots=True)
class Beside:
    """A run with what was predicted and simulated of the same requests."""

    job: _Job
    prediction: Prediction
    simulated: SimResult
    measurement: Measurement
    measured: Metrics


def run(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="What planner plan wrote.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Hugging Face model directory; if it is missing and the manifest asks for a "
            "seeded model, that is made there.  [default: the manifest's]",
        ),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", min=1, help="Requests.  [default: the workload's]")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Users, each sending one request at a time."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Texts to ask, one per line."),
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 always takes the likeliest token.")
    ] = 0.0,
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error",
            metavar="PCT",
            min=0.0,
            help="Exit with 6 if mean TTFT, mean TPOT or output throughput were predicted worse "
            "than by this percentage.",
        ),
    ] = None,
    html: HtmlOption = None,
    chrome_trace: ChromeTraceOption = None,
    nodes: NodesOption = None,
    serve: ServeOption = None,
    api_key: ApiKeyOption = None,
    queue: QueueOption = None,
    scenario: Annotated[
        Path | None,
        typer.Option(
            "--scenario",
            metavar="SCENARIO",
            help="Refuse a manifest that was planned for anything but this scenario.",
        ),
    ] = None,
    profiles: ProfilesOption = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            envvar="PLANNER_SEED",
            min=0,
            help="Seed of all random numbers.  [default: the manifest's]",
        ),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Execute a plan on worker processes of this host and compare it with its prediction.

    The links of the plan are imitated between the workers. The same requests are simulated, so
    predicted and measured figures mean the same. With --nodes the stages run on the machines of
    an inventory and over the links that there are.

    Example: `planner run manifest.yaml --max-error 15`
    """
    from planner.cli.extra import torch_needed
    from planner.cli.page import require_plotly, run_facts, write_page
    from planner.files.manifest import check_digest, read_manifest
    from planner.files.scenario import load_scenario

    if html is not None:
        require_plotly()
    planned = read_manifest(manifest)
    if scenario is not None:
        check_digest(planned, load_scenario(scenario, profiles or []).problem)
    _refuse_unknown(planned.problem)
    texts = None if prompts is None else _texts(prompts)
    job = _job(planned, requests, concurrency, texts, seed)
    with torch_needed("planner run"):
        from planner.cli.checkpoint import choose
        from planner.run import execute as runtime
    runtime.require_packages()
    model = choose(planned, manifest, checkpoint)
    deployed = _deployed(nodes, manifest, job, model)
    places = deployed.places if deployed else None
    threads = _threads(job.problem, job.plan)
    if serve is not None:
        from planner.cli.endpoint import serve_at

        serve_at(serve, job.problem, job.plan, model, api_key, queue, job.seed, threads, places)
        return
    with console.progress(f"running {len(job.requests)} requests"):
        measurement = runtime.execute(
            job.problem,
            job.plan,
            job.requests,
            model,
            texts=job.texts,
            temperature=temperature,
            seed=job.seed,
            threads=threads,
            places=places,
        )
    beside = _beside(job, measurement)
    report = _report(beside)
    if chrome_trace is not None:
        _write_trace(chrome_trace, beside)
    if html is not None:
        write_page(html, run_facts(planned, beside))
    if format is Format.json:
        startup = {"startup": deployed.startup} if deployed else {}
        console.emit_json(report.document() | startup)
    else:
        console.emit(*report.text())
    if max_error is not None:
        _check(report, max_error)


def _deployed(nodes: Path | None, manifest: Path, job: _Job, model: Path) -> Deployment | None:
    """The nodes of an inventory with their weights, where there is one."""
    if nodes is None:
        return None
    from planner.cli.deployment import deploy

    deployed = deploy(nodes, manifest, job.problem, job.plan, model)
    for line in deployed.text():
        console.note(line)
    return deployed


def _refuse_unknown(problem: Problem) -> None:
    """Raises UsageError where the plan counts on something the local workers do not do."""
    from planner.core.errors import UsageError

    serving = problem.serving
    if serving.speculation is not None:
        raise UsageError(
            "planner run does not draft tokens", "plan again without serving.speculation"
        )
    if serving.return_path != "direct":
        raise UsageError(
            "planner run answers on the direct path", "plan again with serving.return_path: direct"
        )


def _texts(path: Path) -> list[str]:
    """The lines of a file that say something."""
    from planner.core.errors import FileProblem, InvalidFileError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidFileError([FileProblem(str(path), f"cannot be read: {reason}")]) from None
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise InvalidFileError([FileProblem(str(path), "holds no prompt; write one per line")])
    return texts


def _job(
    manifest: Manifest,
    requests: int | None,
    concurrency: int | None,
    texts: list[str] | None,
    seed: int | None,
) -> _Job:
    """The manifest's problem with the workload that was asked for, and its requests."""
    from planner.core.workload import Closed

    problem = manifest.problem
    count = requests or (len(texts) if texts else problem.workload.requests)
    changes: dict[str, object] = {"requests": count}
    users = concurrency or problem.workload.concurrency
    if users is not None:
        changes["arrivals"] = Closed(kind="closed", concurrency=min(users, count))
    workload = problem.workload.model_copy(update=changes)
    problem = problem.model_copy(update={"workload": workload})
    used = manifest.seed if seed is None else seed
    asked = [texts[index % len(texts)] for index in range(count)] if texts else None
    return _Job(problem, manifest.plan, workload.sample(used), asked, used)


def _threads(problem: Problem, plan: Plan) -> int | None:
    """Compute threads that the devices' figures were measured with; None where unknown."""
    known = [problem.cluster.device(node).threads for node in plan.nodes]
    return min((count for count in known if count is not None), default=None)


def _beside(job: _Job, measurement: Measurement) -> Beside:
    """The run beside a prediction and a simulation of the requests as they turned out to be."""
    from planner.core.metrics import summarise
    from planner.plan.predict import predict
    from planner.sim.simulate import simulate

    job = _as_asked(job, measurement)
    simulated = simulate(job.problem, job.plan, job.seed, job.requests)
    bounds = job.problem.requirements.must_have.latency_bounds_s()
    return Beside(
        job=job,
        prediction=predict(job.problem, job.plan),
        simulated=simulated,
        measurement=measurement,
        measured=summarise(measurement.records, bounds, simulated.metrics.usd_per_hour),
    )


def _write_trace(path: Path, beside: Beside) -> None:
    from planner.cli.chrometrace import write_trace
    from planner.report.trace import Course, measured_spans

    problem, plan, measurement = beside.job.problem, beside.job.plan, beside.measurement
    spans = list(measured_spans(problem, plan, measurement))
    write_trace(path, Course("measured", problem, plan, spans, measurement.records))


def _report(beside: Beside) -> RunReport:
    """What the run and its prediction say."""
    from planner.report.run import RunReport, coordinator_terms, hop_terms, stage_terms

    job, measurement = beside.job, beside.measurement
    status = [record.status for record in measurement.records]
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
        stages=stage_terms(job.problem, measurement.stages),
        hops=hop_terms(job.problem, job.plan, measurement.hops),
        coordinator=coordinator_terms(job.problem, measurement),
        sessions={
            "started": len(status),
            "completed": status.count("completed"),
            "lost": len(status) - status.count("completed"),
        },
        threads=measurement.threads,
        answers=answers,
    )


def _as_asked(job: _Job, measurement: Measurement) -> _Job:
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


def _check(report: RunReport, percent: float) -> None:
    """Raises CheckFailedError where a checked metric was predicted too badly."""
    from planner.core.errors import CheckFailedError
    from planner.report.tables import label, signed

    beyond = report.beyond(percent / 100)
    if beyond:
        said = "; ".join(
            f"{label(name)} was off by {signed(error)}"
            if error is not None
            else f"{label(name)} could not be compared"
            for name, error in beyond.items()
        )
        raise CheckFailedError(f"{said}; at most {percent:g} % was allowed")
