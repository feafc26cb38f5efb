"""Execute: runs a plan on this host and measures it."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.core.errors import RunError
from planner.core.plan import Plan, Stage
from planner.core.problem import Problem
from planner.core.rng import stream
from planner.core.workload import Request
from planner.run.checkpoint import open_checkpoint
from planner.run.config import ModelConfig
from planner.run.drafting import guesser, open_draft, paced, with_drafts
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.inspection import Inspection
from planner.run.losses import Care, Loss
from planner.run.measurement import Measurement, measured
from planner.run.oversight import Oversight
from planner.run.places import Place
from planner.run.prompts import Prompt
from planner.run.rehearsal import rehearse
from planner.run.reports import report
from planner.run.settings import Settings
from planner.run.shape import same_shape

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Measurement", "OnToken", "check", "execute", "require_packages"]

OnToken = Callable[[int, int, str], None]
"""Called with a request's id, its next token and the text that the token completes."""

QUANTS = ("fp32", "bf16", "int8")
"""Quantizations the bundled runtime computes in."""

PACKAGES = ("torch", "safetensors", "tokenizers")
"""What the extra ``run`` installs."""

_WARM_TOKENS, _WARM_OUTPUT, _WARM_SEATS = 8, 3, 4


def execute(
    problem: Problem,
    plan: Plan,
    requests: Sequence[Request],
    checkpoint: Path,
    *,
    texts: Sequence[str] | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    on_token: OnToken | None = None,
    stall_s: float = 120.0,
    places: Mapping[str, Place] | None = None,
    deterministic: bool = False,
    losses: Sequence[Loss] = (),
    oversight: Oversight | None = None,
    gauge: bool = False,
    compiled: bool = False,
    draft: Path | None = None,
) -> Measurement:
    """Runs ``requests`` through workers that hold the plan's stages, here or at ``places``.

    Links of the cluster are imitated between workers of this host. Requests get random prompts of
    their lengths and always their whole output; with ``texts`` request *i* asks text *i*, up to its
    output length or the model's end token. ``on_token`` hears of every token as it comes.
    ``losses`` are struck while it runs. ``deterministic`` has a node that takes over compute in
    the original shapes what it lacks, where rounding depends on them. ``oversight`` has stages
    sign what they do, and audits it. ``gauge`` has every host read first what it reaches now, and
    rehearses the run for some seconds. ``compiled`` lets stages compile their single rows.
    ``draft`` is the checkpoint of the plan's draft model, where it has one. Raises RunError,
    InvalidFileError.
    """
    require_packages()
    opened = open_checkpoint(checkpoint)
    check(problem, plan, opened.config)
    drafting = open_draft(problem, draft)
    if oversight is not None:
        refuse_unverifiable(problem, compiled)
    tokenizer = opened.tokenizer()
    prompts = _prompts(requests, texts, opened.config, temperature, top_p, seed)
    settings = settings_of(problem, plan, checkpoint, threads, device, seed, places is None)
    settings = replace(settings, gauge=gauge and device == "cpu", compiled=compiled)

    with Fleet(problem.cluster, plan, settings, places) as fleet:
        warm_up(fleet, plan, tokenizer)
        rehearsed = rehearse(problem, fleet, tokenizer, prompts) if settings.gauge else {}
        care = Care(problem, as_sent(plan, deterministic), losses)
        drafter, speller = guesser(problem, plan, fleet, drafting), _speller(tokenizer, on_token)
        drafts = paced(problem, drafter) if drafter and settings.gauge else []
        session = Session(fleet, plan, tokenizer, speller, stall_s, care=care, guesser=drafter)
        inspection = Inspection(fleet, oversight, session) if oversight else None
        session.run(prompts, problem.workload.concurrency)
        verified = inspection.finish() if inspection is not None else None
        reports = report(fleet)
    outcome = measured(problem, fleet, session, reports, with_drafts(rehearsed, problem, drafts))
    records = [session.records[prompt.id] for prompt in prompts]
    texts_of = {key: tokenizer.decode(ids) for key, ids in session.outputs.items()}
    return replace(outcome, records=records, texts=texts_of, verified=verified)


def settings_of(
    problem: Problem,
    plan: Plan,
    checkpoint: Path,
    threads: int | None,
    device: str,
    seed: int,
    imitate_links: bool,
) -> Settings:
    """How the workers of a plan run, with their share of the cores where ``threads`` is None."""
    return Settings(
        checkpoint=checkpoint,
        slot_tokens=longest_request(problem),
        threads=threads or max(1, len(os.sched_getaffinity(0)) // len(plan.nodes)),
        device=device,
        seed=seed,
        imitate_links=imitate_links,
        wires=wires(problem),
        prefill_chunk=problem.engine.prefill_chunk,
        draft_tokens=problem.serving.checked_tokens - 1,
        checks_in_flight=problem.serving.checks_in_flight,
    )


def as_sent(plan: Plan, deterministic: bool) -> bool:
    """Whether original steps have to be repeated for tokens to stay: fp32 does not need it."""
    return deterministic and any(stage.quant != "fp32" for stage in stages(plan))


def stages(plan: Plan) -> list[Stage]:
    """All stages of a plan."""
    return [stage for pipeline in plan.pipelines for stage in pipeline.stages]


def refuse_unverifiable(problem: Problem, compiled: bool) -> None:
    """Raises RunError where receipts cannot say what happened, or nobody knows its honest noise."""
    if compiled:
        raise RunError(
            "compiled steps cannot be verified: how far they round from others is not calibrated",
            "run without --compile, or without receipts",
        )
    if problem.serving.speculation is not None:
        raise RunError(
            "steps that check drafts cannot be verified",
            "plan without serving.speculation, or without serving.verification",
        )


def wires(problem: Problem) -> dict[str, str]:
    """How hidden states travel by quantization; below 16 bits they do as int8."""
    return {quant.id: "int8" if quant.wire_bits < 16 else "plain" for quant in problem.quants}


def require_packages() -> None:
    """Raises RunError unless everything the workers import is installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(f"{', '.join(missing)} not installed", "pip install 'planner[run]'")


def check(problem: Problem, plan: Plan, config: ModelConfig) -> None:
    """Raises RunError where the runtime cannot do what the plan says with this checkpoint."""
    for stage in stages(plan):
        if stage.quant not in QUANTS:
            raise RunError(
                f"the bundled runtime does not compute in {stage.quant} (stage on {stage.node})",
                f"plan with quants among {', '.join(QUANTS)}, or export to another engine",
            )
        if problem.cluster.node(stage.node).count > 1:
            raise RunError(
                f"node {stage.node} has several devices; the bundled runtime uses one per stage",
                "give each device a node of its own, or export to another engine",
            )
    hint = "plan for the model of the checkpoint, or name another checkpoint"
    same_shape(problem.model, config, hint)


def longest_request(problem: Problem) -> int:
    """Tokens that a seat holds: those of the longest request, in whole blocks."""
    block = problem.engine.kv_block_tokens
    return math.ceil(problem.tokens_per_request / block) * block


def _prompts(
    requests: Sequence[Request],
    texts: Sequence[str] | None,
    config: ModelConfig,
    temperature: float,
    top_p: float,
    seed: int,
) -> list[Prompt]:
    """Requests with their content: the texts, or random tokens of the right length."""
    prompts = []
    for index, request in enumerate(requests):
        draws = stream(seed, "prompt", request.id)
        content: str | list[int]
        if texts is None:
            content = [draws.randrange(config.vocab_size) for _ in range(request.prompt_tokens)]
        else:
            content = texts[index]
        prompts.append(
            Prompt(
                id=request.id,
                arrival_s=request.arrival_s,
                content=content,
                max_new_tokens=request.output_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=stream(seed, "sampling", request.id).getrandbits(63),
                stop_ids=frozenset(config.stop_ids if texts is not None else ()),
            )
        )
    return prompts


def warm_up(fleet: Fleet, plan: Plan, tokenizer: Tokenizer) -> None:
    """Fills every pipeline once with short prompts, so that all connections have been used."""
    seats = sum(min(pipeline.max_num_seqs, _WARM_SEATS) for pipeline in plan.pipelines)
    tokens = max(1, min(_WARM_TOKENS, fleet.slot_tokens - _WARM_TOKENS))
    prompts = [Prompt(index, 0.0, [0] * tokens, _WARM_OUTPUT) for index in range(seats)]
    Session(fleet, plan, tokenizer).run(prompts, concurrency=seats)


def _speller(tokenizer: Tokenizer, on_token: OnToken | None) -> Callable[[int, int], None] | None:
    """Spells every token in its context before it is told."""
    if on_token is None:
        return None
    from tokenizers.decoders import DecodeStream

    streams: dict[int, DecodeStream] = {}

    def spell(request: int, token: int) -> None:
        stream = streams.setdefault(request, DecodeStream(skip_special_tokens=True))
        on_token(request, token, stream.step(tokenizer, token) or "")

    return spell
