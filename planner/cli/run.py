"""``planner run``: executes a plan on local workers, predicted beside measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.beside import Beside, Job, put_beside, report_of, write_measured_trace
from planner.cli.console import Format, FormatOption, ManifestArgument, ProfilesOption
from planner.cli.feedback import Feedback, feed_back
from planner.cli.hardware import is_probed, threads_of, warn_of_other_hardware
from planner.cli.options import (
    ApiKeyOption,
    CompileOption,
    DeterministicOption,
    DraftOption,
    EngineOption,
    FeedbackOption,
    GaugeOption,
    HangOption,
    LoseOption,
    NodesOption,
    QueueOption,
    RayAddressOption,
    ServeOption,
    TlsCertOption,
    TlsKeyOption,
)
from planner.cli.outputs import ChromeTraceOption
from planner.cli.oversight import (
    AuditOption,
    ReceiptsOption,
    ThresholdsOption,
    audited,
    oversight_of,
)
from planner.cli.page import HtmlOption
from planner.cli.rehearsal import losses_of

if TYPE_CHECKING:
    from planner.cli.deployment import Deployment
    from planner.core.problem import Problem
    from planner.files.manifest import Manifest
    from planner.report.run import RunReport
    from planner.run.places import Place


def run(
    context: typer.Context,
    manifest: ManifestArgument,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Hugging Face model directory; if it is missing and the manifest asks for a "
            "seeded model, that is made there.  [default: the manifest's]",
        ),
    ] = None,
    draft: DraftOption = None,
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
    lose: LoseOption = None,
    hang: HangOption = None,
    deterministic: DeterministicOption = False,
    gauge: GaugeOption = True,
    compiled: CompileOption = False,
    calibrate: FeedbackOption = None,
    receipts: ReceiptsOption = None,
    audit: AuditOption = None,
    thresholds: ThresholdsOption = None,
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
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    serve: ServeOption = None,
    api_key: ApiKeyOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
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
    """Execute a plan and compare it with its prediction.

    Stages are processes of this host, links imitated, the same requests simulated. With --nodes
    they run on the machines of an inventory, over the links that there are; with --engine ray on
    Ray nodes that have the resource planner:ID or the label planner-node=ID.

    Example: `planner run manifest.yaml --max-error 15`
    """
    from planner.cli.extra import needs

    _check_options(context, engine, nodes, html)
    planned = _planned(manifest, scenario, profiles or [])
    texts = None if prompts is None else _texts(prompts)
    job = audited(_job(planned, requests, concurrency, texts, seed), receipts, audit)
    with needs("run", "planner run"):
        from planner.cli.checkpoint import choose, choose_draft
        from planner.run.execute import execute
        from planner.run.setup import Setup, require_packages
    require_packages()
    losses = losses_of(job.plan, lose or [], hang or [])
    model = choose(planned, manifest, checkpoint)
    guesser = choose_draft(planned, manifest, draft)
    deployed = _deployed(nodes, manifest, job, model)
    places: Mapping[str, Place] | None = deployed.places if deployed else None
    threads = threads_of(job.problem, job.plan)
    if engine == "ray":
        from planner.cli.deployment import on_ray

        places = context.with_resource(on_ray(job.plan, model, threads, ray_address))
    setup = Setup(
        job.problem,
        job.plan,
        model,
        seed=job.seed,
        threads=threads,
        places=places,
        draft=guesser,
        oversight=oversight_of(job.problem, planned, manifest, model, receipts, thresholds),
        gauge=gauge and serve is None and is_probed(job.problem, job.plan),
        compiled=compiled,
        deterministic=deterministic,
    )
    if serve is not None:
        from planner.cli.endpoint import Entrance, serve_at

        serve_at(Entrance(serve, api_key, tls_cert, tls_key, queue), setup)
        return
    if places is None:
        warn_of_other_hardware(job.problem, job.plan)
    with console.progress(f"running {len(job.requests)} requests"):
        measurement = execute(
            setup, job.requests, texts=job.texts, temperature=temperature, losses=losses
        )
    beside = put_beside(job, measurement)
    _write(planned, beside, chrome_trace, html)
    report = report_of(beside)
    _emit(report, deployed, feed_back(beside, calibrate) if calibrate else None, format)
    _check(report, max_error)


def _planned(path: Path, scenario: Path | None, profiles: list[Path]) -> Manifest:
    """A manifest that the runtime can execute, planned for the scenario if one is named."""
    from planner.files.manifest import check_digest, read_manifest
    from planner.files.scenario import load_scenario

    planned = read_manifest(path)
    if scenario is not None:
        check_digest(planned, load_scenario(scenario, profiles).problem)
    _refuse_unknown(planned.problem)
    return planned


def _check_options(
    context: typer.Context, engine: str, nodes: Path | None, html: Path | None
) -> None:
    """Raises UsageError for options that do not go together, or that need what is not there."""
    from planner.cli.endpoint import only_of_a_replay
    from planner.cli.page import require_plotly
    from planner.core.errors import UsageError

    only_of_a_replay(context)
    if engine == "ray" and nodes is not None:
        raise UsageError("--engine ray finds its own nodes", "leave out one of it and --nodes")
    if html is not None:
        require_plotly()


def _deployed(nodes: Path | None, manifest: Path, job: Job, model: Path) -> Deployment | None:
    """The nodes of an inventory with their weights, where there is one."""
    if nodes is None:
        return None
    from planner.cli.deployment import deploy

    deployed = deploy(nodes, manifest, job.problem, job.plan, model)
    for line in deployed.text():
        console.note(line)
    return deployed


def _write(planned: Manifest, beside: Beside, trace: Path | None, html: Path | None) -> None:
    """The files that were asked for."""
    from planner.cli.page import run_facts, write_page

    if trace is not None:
        write_measured_trace(trace, beside)
    if html is not None:
        write_page(html, run_facts(planned, beside))


def _emit(
    report: RunReport, deployed: Deployment | None, feedback: Feedback | None, format: Format
) -> None:
    for host in report.steadiness:
        if host.restless:
            console.warn(host.warning)
    if format is Format.json:
        more: dict[str, object] = {"startup": deployed.startup} if deployed else {}
        if feedback is not None:
            more["calibration"] = feedback.document()
        console.emit_json(report.document() | more)
    else:
        console.emit(*report.text(), *(feedback.text() if feedback else ()))


def _refuse_unknown(problem: Problem) -> None:
    """Raises UsageError where the plan counts on something the local workers do not do."""
    from planner.core.errors import UsageError

    serving = problem.serving
    if problem.workload.sessions is not None:
        raise UsageError(
            "planner run sends every request by itself, sessions are simulated only",
            "plan again without workload.sessions",
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
) -> Job:
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
    return Job(problem, manifest.plan, workload.sample(used), asked, used)


def _check(report: RunReport, percent: float | None) -> None:
    """Raises RunError where requests were lost with a node, CheckFailedError for bad predictions.

    A checked metric may be off by ``percent``; None does not check.
    """
    from planner.core.errors import CheckFailedError, RunError
    from planner.core.words import label
    from planner.report.tables import signed

    if report.unserved:
        raise RunError(report.unserved, "plan with standbys: must_have.availability")
    beyond = {} if percent is None else report.beyond(percent / 100)
    if beyond:
        said = "; ".join(
            f"{label(name)} was off by {signed(error)}"
            if error is not None
            else f"{label(name)} could not be compared"
            for name, error in beyond.items()
        )
        raise CheckFailedError(f"{said}; at most {percent:g} % was allowed")
