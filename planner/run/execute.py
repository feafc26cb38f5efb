"""Execute: runs a plan on this host, or on its nodes, and measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.core.rng import stream
from planner.core.workload import Request
from planner.run.config import ModelConfig
from planner.run.drafting import paced, with_drafts
from planner.run.driver import Session
from planner.run.inspection import Inspection
from planner.run.losses import Loss
from planner.run.measurement import Measurement, measured, report
from planner.run.prompts import Prompt
from planner.run.rehearsal import rehearse
from planner.run.setup import Setup, opened

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OnToken = Callable[[int, int, str], None]
"""Called with a request's id, its next token and the text that the token completes."""


def execute(
    setup: Setup,
    requests: Sequence[Request],
    *,
    texts: Sequence[str] | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    on_token: OnToken | None = None,
    stall_s: float = 120.0,
    losses: Sequence[Loss] = (),
) -> Measurement:
    """Sends ``requests`` through workers that hold the stages of a plan.

    They get random prompts of their lengths and always their whole output; with ``texts`` request
    *i* asks text *i*, up to its output length or the model's end token. ``on_token`` hears of every
    token as it comes. ``losses`` are struck while it runs. Raises RunError, InvalidFileError.
    """
    ready, problem = opened(setup), setup.problem
    tokenizer, config = ready.tokenizer, ready.checkpoint.config
    prompts = _prompts(requests, texts, config, temperature, top_p, setup.seed)
    with ready.fleet() as fleet:
        gauged = fleet.settings.gauge
        rehearsed = rehearse(problem, fleet, tokenizer, prompts) if gauged else {}
        drafter, speller = ready.guesser(fleet), _speller(tokenizer, on_token)
        drafts = paced(problem, drafter) if drafter and gauged else []
        care = setup.care(losses)
        session = Session(fleet, tokenizer, speller, stall_s, care=care, guesser=drafter)
        inspection = Inspection(fleet, setup.oversight, session) if setup.oversight else None
        session.run(prompts, problem.workload.concurrency)
        verified = inspection.finish() if inspection is not None else None
        reports = report(fleet)
    outcome = measured(problem, fleet, session, reports, with_drafts(rehearsed, problem, drafts))
    records = [session.records[prompt.id] for prompt in prompts]
    texts_of = {key: tokenizer.decode(ids) for key, ids in session.outputs.items()}
    return replace(outcome, records=records, texts=texts_of, verified=verified)


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
