"""Drafting: the draft model of a plan, from its checkpoint to a guesser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.core.cost.measured import MeasuredStep
from planner.core.errors import RunError
from planner.core.forecast import Rehearsal
from planner.core.problem import Problem
from planner.run.checkpoint import Checkpoint, open_checkpoint, same_shape
from planner.run.fleet import Fleet

if TYPE_CHECKING:
    from planner.run.drafter import Drafter


def open_draft(problem: Problem, directory: Path | None) -> Checkpoint | None:
    """The checkpoint of the plan's draft model; None where it has none. Raises RunError."""
    if problem.draft is None or problem.serving.speculation is None:
        return None
    if directory is None:
        raise RunError(
            f"the plan drafts with {problem.draft.id}, and nothing says where its weights are",
            "name a model directory with --draft, or plan with run: {draft: {checkpoint: DIR}}",
        )
    opened = open_checkpoint(directory)
    same_shape(problem.draft, opened.config, "plan for the draft's checkpoint, or name another")
    return opened


def guesser(problem: Problem, fleet: Fleet, drafting: Checkpoint | None) -> Drafter | None:
    """The draft model of a plan at work in this process; None where guesses are looked up.

    It computes in the first of the quantizations, with the kernels that this host's race chose.
    """
    if drafting is None:
        return None
    import torch

    from planner.run.drafter import Drafter
    from planner.run.linear import as_told

    settings, quant = fleet.settings, problem.quants[0].id
    torch.set_num_threads(settings.threads)
    seats = [pipeline.max_num_seqs for pipeline in fleet.plan.pipelines]
    kernels = as_told(fleet.kernels.get(("", quant)), quant, settings.device, sum(seats))
    device = settings.device
    return Drafter(drafting, quant, seats, settings.slot_tokens, device=device, kernels=kernels)


def with_drafts(
    rehearsed: Mapping[str, Rehearsal], problem: Problem, drafts: Sequence[MeasuredStep]
) -> dict[str, Rehearsal]:
    """What nodes rehearsed, with the steps of the draft in every round of the coordinator's."""
    home, found = problem.cluster.coordinator, dict(rehearsed)
    if drafts:
        own = found.get(home) or Rehearsal(rounds=((),), span_s=0.0, host="coordinator")
        found[home] = replace(own, rounds=tuple((*one, *drafts) for one in own.rounds))
    return found


def paced(problem: Problem, drafter: Drafter) -> list[MeasuredStep]:
    """Steps that the draft makes now, as the cost model knows them."""
    home, draft = problem.cluster.coordinator, problem.draft
    if draft is None or problem.cluster.node(home).device is None:
        return []
    device, layers = problem.cluster.device(home), (0, draft.num_hidden_layers)
    return [
        MeasuredStep(device, draft, *layers, problem.quants[0], batch, seconds)
        for batch, seconds in drafter.paces().items()
    ]
