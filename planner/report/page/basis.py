"""What a page rests on: assumptions, prices and data with their dates."""

from __future__ import annotations

from collections.abc import Iterator

from planner.core.problem import Problem
from planner.core.spec import Card
from planner.core.workload import Fixed
from planner.report.page.facts import Facts
from planner.report.tables import trust


def assumptions(facts: Facts) -> Iterator[tuple[str, str]]:
    """What was assumed about load, software and lines."""
    problem = facts.problem
    load = problem.workload
    users = load.concurrency
    kind = load.arrivals.kind
    yield (
        "requests",
        f"{users} user{'s' * (users > 1)}, one request at a time each"
        if users
        else f"{kind} arrivals",
    )
    yield "prompts", _lengths(load.prompt)
    yield "answers", _lengths(load.output)
    yield "model", f"{problem.model.id}, {problem.model.total_params / 1e9:.3g} billion weights"
    yield "engine", f"{problem.engine.name} {problem.engine.version}"
    said = facts.prediction
    yield "predictions", trust(said.tier, said.error_band, said.new, said.error_bands)
    serving = problem.serving
    yield "a node counts as lost after", f"{serving.detect_s:g} s without an answer"
    if serving.speculation is not None:
        yield "drafting", f"{serving.tokens_per_round:.3g} tokens expected per step"
    churning = {n.churn for n in problem.cluster.workers if n.churn and n.id in facts.plan.nodes}
    if churning:
        yield "nodes come and go as", ", ".join(sorted(churning))


def _lengths(length: object) -> str:
    if isinstance(length, Fixed):
        return f"{length.tokens} tokens each"
    mean, most = getattr(length, "mean_tokens", 0.0), getattr(length, "max_tokens", 0)
    return f"{mean:.0f} tokens on average, {most} at most"


def prices(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """What is paid, how much and as of when."""
    cluster = facts.problem.cluster
    for name in facts.plan.nodes:
        node = cluster.node(name)
        if node.usd_per_hour:
            yield f"rent of {name}", f"{node.usd_per_hour:.4g} USD/h", "as the scenario says"
        if node.usd_per_joule:
            kwh = node.usd_per_joule * 3.6e6
            yield f"electricity of {name}", f"{kwh:.4g} USD/kWh", "as the scenario says"
    for rival in facts.rivals:
        if rival.source:
            value = rival.metrics.usd_per_million_output_tokens
            yield rival.name, "-" if value is None else f"{value:.4g} USD/Mtok", rival.source
    told = {rival.name for rival in facts.rivals if rival.source}
    for price in facts.prices:
        if price["what"] not in told:
            source = f"price of {price['as_of']}, {price['source']}"
            yield price["what"], price["value"], source


def sources(problem: Problem, plan_nodes: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Cards that the figures come from: what, as of when, from where."""
    devices = {problem.cluster.device(name).id: problem.cluster.device(name) for name in plan_nodes}
    cards: list[tuple[str, Card]] = [
        ("model", problem.model),
        ("engine", problem.engine),
        *(("device", one) for one in devices.values()),
        *(("quantization", one) for one in problem.quants),
        *(("churn", one) for one in problem.cluster.churn),
    ]
    for kind, card in cards:
        yield f"{kind} {card.id}", str(card.as_of), card.source
