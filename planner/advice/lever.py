"""Lever: an input that nobody knows for sure, and what the options are like at another value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from planner.advice.alternative import Option
from planner.core.choice import decided
from planner.core.problem import Problem
from planner.core.workload import Closed

_WIDE = 64.0
"""How far up and down from today's value is looked."""
_LOADS = 16.0
"""The same for the load."""
_USERS = 256.0
"""Users up to which a closed loop is looked at in any case."""


@dataclass(frozen=True, slots=True)
class Lever:
    """One uncertain input of some options."""

    name: str
    now: float
    said: str
    """How a value of it is said, as a format."""
    low: float
    high: float
    moved: Callable[[Option, float], Option]
    """An option at another value of the input."""
    whole: bool = False
    """Whether there are only whole values."""
    scale: float = 1.0
    """What a value is multiplied by before it is said."""

    def say(self, value: float) -> str:
        """A value in words."""
        return self.said.format(value * self.scale)

    def figure(self, value: float) -> str:
        """A value without what it is a value of."""
        return f"{value * self.scale:.3g}"


def levers(options: Sequence[Option]) -> list[Lever]:
    """The inputs that can change which option is best; the first option is the one asked about."""
    first = options[0]
    made = [*_money(options), _load(first.problem), _in_use(first.problem)]
    if any(option.price is None for option in options):
        made += _network(options)
    if any(node.churn for node in first.problem.cluster.workers):
        made.append(_churn())
    speculation = first.problem.serving.speculation
    if speculation is not None and 0 < speculation.acceptance < 1:
        made.append(_acceptance(first.name, speculation.acceptance))
    return made


def _money(options: Sequence[Option]) -> list[Lever]:
    first, made = options[0], list[Lever]()
    machines, cluster = first.problem.cluster.nodes, first.problem.cluster
    used = {cluster.coordinator}
    if first.plans:
        used = {decided(first.problem, first.plans[0]).cluster.coordinator}
        used |= {*first.plans[0].nodes, *(standby.node for standby in first.plans[0].standbys)}
    rent = sum(node.usd_per_hour for node in machines if node.id in used)
    owned = sum(node.hardware_usd_per_hour for node in machines if node.id in used)
    if rent:
        name = f"rent of {first.name}"
        made.append(_price(name, first, rent, "usd_per_hour", "{:.3g} USD/h of rent"))
    if owned:
        price = sum(node.purchase_usd for node in machines if node.id in used)
        name = f"purchase price of {first.name}"
        made.append(_price(name, first, price, "purchase_usd", "{:,.0f} USD of purchase"))
    paid = [node for node in machines if node.id in used and node.usd_per_joule]
    if paid:
        per_kwh = paid[0].usd_per_joule * 3.6e6
        said = "{:.3g} USD/kWh"
        made.append(_price("electricity", first, per_kwh, "usd_per_joule", said))
    apis = [option for option in options if option.price is not None]
    if apis and len(apis) < len(options):
        output = min(option.price.usd_per_output_token for option in apis if option.price)
        made.append(_api_price(output))
    return made


def _price(name: str, first: Option, now: float, field: str, said: str) -> Lever:
    """A price of the machines of the first option, all of them by the same factor."""

    def moved(option: Option, value: float) -> Option:
        if option.name != first.name:
            return option
        nodes = tuple(
            node.model_copy(update={field: getattr(node, field) * value / now})
            for node in option.problem.cluster.nodes
        )
        return option.under(_with_cluster(option.problem, {"nodes": nodes}))

    return Lever(name, now, said, now / _WIDE, now * _WIDE, moved)


def _api_price(now: float) -> Lever:
    def moved(option: Option, value: float) -> Option:
        if option.price is None:
            return option
        factor, price = value / now, option.price
        cached = price.usd_per_cached_token
        changed = price.model_copy(
            update={
                "usd_per_input_token": price.usd_per_input_token * factor,
                "usd_per_output_token": price.usd_per_output_token * factor,
                "usd_per_cached_token": None if cached is None else cached * factor,
            }
        )
        return replace(option, price=changed)

    said = "{:.3g} USD per million output tokens at the cheapest API"
    return Lever("API price", now, said, now / _WIDE, now * _WIDE, moved, scale=1e6)


def _in_use(problem: Problem) -> Lever:
    """Every option is used for the same share of the time."""

    def moved(option: Option, value: float) -> Option:
        deployment = option.problem.deployment.model_copy(update={"in_use": value})
        return option.under(option.problem.model_copy(update={"deployment": deployment}))

    now = problem.deployment.in_use
    return Lever("utilisation", now, "{:.3g} % of the time in use", 1e-3, 1.0, moved, scale=100.0)


def _load(problem: Problem) -> Lever:
    arrivals = problem.workload.arrivals
    closed = isinstance(arrivals, Closed)
    now = float(arrivals.concurrency) if isinstance(arrivals, Closed) else arrivals.requests_per_s

    def moved(option: Option, value: float) -> Option:
        mine = option.problem.workload.arrivals
        change = {"concurrency": max(1, round(value))} if closed else {"requests_per_s": value}
        workload = option.problem.workload.model_copy(
            update={"arrivals": mine.model_copy(update=change)}
        )
        return option.under(option.problem.model_copy(update={"workload": workload}))

    said = "{:.0f} users at once" if closed else "{:.3g} requests/s"
    low = 1.0 if closed else now / _LOADS
    high = max(now * _LOADS, _USERS) if closed else now * _LOADS
    return Lever("load", now, said, low, high, moved, whole=closed)


def _network(options: Sequence[Option]) -> list[Lever]:
    """Latency and bandwidth of the lines of the first option, as factors of today's."""
    first = options[0].name

    def scaled(field: str) -> Callable[[Option, float], Option]:
        def moved(option: Option, value: float) -> Option:
            if option.name != first:
                return option
            links = tuple(
                link.model_copy(update={field: getattr(link, field) * value})
                for link in option.problem.cluster.links
            )
            return option.under(_with_cluster(option.problem, {"links": links}))

        return moved

    latency, rate = scaled("one_way_latency_s"), scaled("bytes_per_s")
    return [
        Lever("link latency", 1.0, "{:.3g} times today's link latency", 1 / _WIDE, _WIDE, latency),
        Lever("link bandwidth", 1.0, "{:.3g} times today's bandwidth", 1 / _WIDE, _WIDE, rate),
    ]


def _churn() -> Lever:
    """How long nodes that come and go stay, as a factor of today's."""

    def moved(option: Option, value: float) -> Option:
        churn = tuple(
            one.model_copy(
                update={"up_scale_s": one.up_scale_s * value}
                if not one.recorded
                else {"step_s": one.step_s * value}
            )
            for one in option.problem.cluster.churn
        )
        return option.under(_with_cluster(option.problem, {"churn": churn}))

    said = "{:.3g} times today's mean time that nodes stay"
    return Lever("churn", 1.0, said, 1 / _WIDE, _WIDE, moved)


def _acceptance(first: str, now: float) -> Lever:
    def moved(option: Option, value: float) -> Option:
        speculation = option.problem.serving.speculation
        if option.name != first or speculation is None:
            return option
        serving = option.problem.serving.model_copy(
            update={"speculation": speculation.model_copy(update={"acceptance": value})}
        )
        return option.under(option.problem.model_copy(update={"serving": serving}))

    said = "{:.3g} % of drafts accepted"
    return Lever("draft acceptance", now, said, 0.01, 0.99, moved, scale=100.0)


def _with_cluster(problem: Problem, changes: dict[str, object]) -> Problem:
    values = dict(problem.cluster) | changes
    return problem.model_copy(update={"cluster": type(problem.cluster)(**values)})
