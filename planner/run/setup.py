"""Setup: a plan as it is to run, and all that has to be there before a request can."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planner.core.errors import RunError
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.run.checkpoint import Checkpoint, open_checkpoint, same_shape
from planner.run.config import ModelConfig
from planner.run.drafting import guesser, open_draft
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.losses import Care, Loss
from planner.run.oversight import Oversight
from planner.run.places import Place
from planner.run.prompts import Prompt
from planner.run.settings import PACKAGES, QUANTS, Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from planner.run.drafter import Drafter

_WARM_TOKENS, _WARM_OUTPUT, _WARM_SEATS = 8, 3, 4


@dataclass(frozen=True, slots=True)
class Setup:
    """A plan as it is to run: with which weights, where and how."""

    problem: Problem
    plan: Plan
    checkpoint: Path
    _: KW_ONLY
    seed: int = 0
    threads: int | None = None
    """Compute threads of a worker; its share of the cores where None."""
    device: str = "cpu"
    places: Mapping[str, Place] | None = None
    """By node; without them stages run on this host and the links are imitated."""
    draft: Path | None = None
    """Checkpoint of the plan's draft model, where it has one."""
    oversight: Oversight | None = None
    """Has stages sign what they do, and audits it."""
    gauge: bool = False
    """Has every host read first what it reaches now; a replay is rehearsed for some seconds."""
    compiled: bool = False
    """Lets stages compile their single rows."""
    deterministic: bool = False
    """Has a node that takes over compute in the original shapes what it lacks."""

    @property
    def settings(self) -> Settings:
        """How the workers run."""
        serving = self.problem.serving
        return Settings(
            checkpoint=self.checkpoint,
            slot_tokens=longest_request(self.problem),
            threads=self.threads or max(1, len(os.sched_getaffinity(0)) // len(self.plan.nodes)),
            device=self.device,
            seed=self.seed,
            imitate_links=self.places is None,
            wires=wires(self.problem),
            prefill_chunk=self.problem.engine.prefill_chunk,
            draft_tokens=serving.checked_tokens - 1,
            checks_in_flight=serving.checks_in_flight,
            gauge=self.gauge and self.device == "cpu",
            compiled=self.compiled,
        )

    def care(self, losses: Sequence[Loss] = ()) -> Care:
        """What is done about lost nodes; fp32 keeps its tokens whatever shapes are computed."""
        quants = {stage.quant for one in self.plan.pipelines for stage in one.stages}
        return Care(self.problem, self.deterministic and quants != {"fp32"}, losses)


@dataclass(frozen=True, slots=True)
class Opened:
    """A setup whose checkpoints were opened and fit the plan."""

    setup: Setup
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    drafting: Checkpoint | None

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        """The workers, warmed up; they end with it."""
        setup = self.setup
        cluster, settings = setup.problem.cluster, setup.settings
        with Fleet(cluster, setup.plan, settings, setup.places) as fleet:
            warm_up(fleet, self.tokenizer)
            yield fleet

    def guesser(self, fleet: Fleet) -> Drafter | None:
        """The draft model at work in this process; None where guesses are looked up."""
        return guesser(self.setup.problem, fleet, self.drafting)


def opened(setup: Setup) -> Opened:
    """The setup, its checkpoints opened and found to fit; raises RunError, InvalidFileError."""
    require_packages()
    checkpoint = open_checkpoint(setup.checkpoint)
    check(setup.problem, setup.plan, checkpoint.config)
    drafting = open_draft(setup.problem, setup.draft)
    if setup.oversight is not None:
        refuse_unverifiable(setup.problem, setup.compiled)
    return Opened(setup, checkpoint, checkpoint.tokenizer(), drafting)


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
    for stage in (stage for pipeline in plan.pipelines for stage in pipeline.stages):
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


def warm_up(fleet: Fleet, tokenizer: Tokenizer) -> None:
    """Fills every pipeline once with short prompts, so that all connections have been used."""
    seats = sum(min(pipeline.max_num_seqs, _WARM_SEATS) for pipeline in fleet.plan.pipelines)
    tokens = max(1, min(_WARM_TOKENS, fleet.slot_tokens - _WARM_TOKENS))
    prompts = [Prompt(index, 0.0, [0] * tokens, _WARM_OUTPUT) for index in range(seats)]
    Session(fleet, tokenizer).run(prompts, concurrency=seats)
