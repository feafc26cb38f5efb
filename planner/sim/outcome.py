"""Outcome: the metrics, costs and utilisation of a run that is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.core.cost.ledger import hidden, ledger, parts, total_usd_per_hour
from planner.core.cost.verification import verification_cost
from planner.core.metrics import summarise
from planner.core.outcomes import Outcomes
from planner.sim.accounts import activity, audits, busy_shares
from planner.sim.result import EVENTS, SimResult
from planner.sim.spent import spent_s

if TYPE_CHECKING:
    from planner.sim.run import Run


def outcome(run: Run, records: Outcomes) -> SimResult:
    """Metrics, costs and utilisation of what happened."""
    now_s = max(run.lasted_s, 1e-12)
    run.served.clear()  # a million of them take more memory than all that follows
    presence = run.failover.presence
    away_s, starting_s = presence.away(now_s), presence.starting(now_s)
    done = activity(
        run.network, now_s, away_s, starting_s, _lost_share(records, run.evicted_tokens)
    )
    audited = audits(run.problem, run.plan, records, now_s)
    done = replace(done, audit=audited.busy, audit_bytes=audited.sent_bytes)
    lines = ledger(run.problem, run.plan, done)
    audits_usd = hidden(lines).get("verification", 0.0)
    counted = records[run.problem.workload.warmup_requests :]
    must = run.problem.requirements.must_have
    metrics = summarise(
        counted,
        must.latency_bounds_s(),
        total_usd_per_hour(lines),
        run.problem.deployment.in_use,
        None if run.exact_steps else run.gaps,
    )
    stages, links = busy_shares(run.network, now_s)
    return SimResult(
        records=records,
        metrics=metrics,
        cost=parts(lines),
        cost_lines=lines,
        verification=verification_cost(
            run.problem, run.plan, audited, sum(done.busy.values()), audits_usd
        ),
        events={name: run.failover.counts[name] + presence.counts[name] for name in EVENTS},
        simulated_s=run.lasted_s,
        event_count=run.happened,
        broken=tuple(_broken(run)),
        presence_s=run.presence_s,
        spent_s=spent_s(counted, run.failover.recoveries, run.problem.engine.request_s),
        stage_busy=stages,
        link_busy=links,
        draft_busy={run.problem.cluster.coordinator: done.drafting} if done.drafting else {},
        most_seated=tuple(lane.most_seats for lane in run.lanes),
        prefix_tokens=(
            sum(lane.schedule.asked_tokens for lane in run.lanes),
            sum(lane.schedule.reused_tokens for lane in run.lanes),
        ),
        recoveries=tuple(run.failover.recoveries),
        away_s=away_s,
        starting_s=starting_s,
        visits=tuple(sorted(run.visits, key=lambda visit: (visit.began_s, visit.job))),
    )


def _broken(run: Run) -> Iterator[str]:
    """What does not add up at the end, and what was seen on the way."""
    if run.owed_tokens:
        yield f"1: completed requests lack {run.owed_tokens} tokens"
    for index, lane in enumerate(run.lanes):
        if said := lane.schedule.fault:
            yield f"4: pipeline {index} {said}"
    if run.watch is not None:
        yield from run.watch.broken


def _lost_share(records: Outcomes, evicted_tokens: int) -> float:
    """Share of the computed tokens that nobody got: of requests that failed or began anew."""
    lost = _computed(records.where("failed")) + evicted_tokens
    return lost / (_computed(records) + evicted_tokens) if lost else 0.0


def _computed(records: Outcomes) -> int:
    """Tokens of requests of which a prompt was computed."""
    tokens = records.prompt_tokens + records.output_tokens
    return int(tokens[records.output_tokens > 0].sum())
