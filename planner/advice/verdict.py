"""Verdict: what to do, in words, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from planner.advice.alternative import Alternative
from planner.advice.flips import Flip
from planner.advice.ranking import EQUAL, ranked
from planner.core.requirements import Miss, Requirements, scale
from planner.core.spec import Spec
from planner.core.words import asked_text, figure, label


class Verdict(Spec):
    """The recommendation; its text comes first in every output."""

    winner: str
    """Name of the best alternative; empty where nothing serves."""
    runner_up: str = ""
    text: tuple[str, ...]
    """What to do and why, a sentence each."""
    only_if: tuple[str, ...] = ()
    """What has to hold for it, where ordinary life may say otherwise."""
    fallback: str = ""
    """The next alternative that meets the must-haves without that."""
    nearest: str = ""
    """Where nothing serves: the alternative that comes closest."""


def verdict(
    requirements: Requirements,
    found: Sequence[Alternative],
    flips: Sequence[Flip] = (),
    asked: str = "",
) -> Verdict:
    """What to do; ``asked`` is the alternative that the user came with."""
    order = ranked(requirements, found)
    able = [one for one in order if one.may_serve]
    if not able:
        return _nothing(requirements, order)
    best, rest = order[0], able[1:]
    text = [_headline(requirements, best, next((o for o in found if o.name == asked), None))]
    if best.unknown:
        text.append(
            f"Nobody published its {_listed(best.unknown)}: measure that before you rely on it."
        )
        sure = next((one for one in rest if not one.unknown), None)
        if sure is not None:
            text.append(f"The best one whose figures are all known is {sure.name}.")
    if rest:
        text.append(_against(requirements, best, rest[0]))
    near = [flip for flip in flips if flip.near and flip.before == best.name]
    fallback = _fallback(best, near, rest)
    if near:
        text.append(
            "This holds only near today's figures: "
            + "; ".join(dict.fromkeys(flip.text for flip in near))
            + (f". Otherwise take {fallback}." if fallback else ".")
        )
    return Verdict(
        winner=best.name,
        runner_up=rest[0].name if rest else "",
        text=tuple(text),
        only_if=tuple(flip.text for flip in near),
        fallback=fallback,
    )


def _headline(requirements: Requirements, best: Alternative, asked: Alternative | None) -> str:
    price = best.metrics.usd_per_million_output_tokens
    costs = f" at {price:.3g} USD per million output tokens" if price is not None else ""
    what = f"Use the API of {best.name}" if best.kind == "api" else f"Use {best.name}"
    if asked is None or asked.name == best.name:
        return f"{what}{costs}."
    if asked.missed:
        return f"{what}{costs}, not {asked.name}: it misses {_misses(asked.missed)}."
    mine = asked.metrics.usd_per_million_output_tokens
    if mine is not None and price and requirements.objective == "usd_per_million_output_tokens":
        times = f"{mine / price:.3g} times as much"
        return f"{what}{costs}, not {asked.name}, which costs {mine:.3g} USD, {times}."
    rather = f"{what}{costs}, not {asked.name}" + (
        f" at {mine:.3g} USD" if mine is not None else ""
    )
    metric = scale(requirements.objective)[0]
    ours, theirs = requirements.value(best.metrics), requirements.value(asked.metrics)
    if ours is None or theirs is None:
        return f"{rather}."
    if _equal(ours, theirs):
        same = f"{label(metric)} is the same within {EQUAL:.0%}"
        return f"{rather}: {same}, {figure(metric, ours)}."
    return f"{rather}: its {label(metric)} is {_instead(metric, ours, theirs)}."


def _against(requirements: Requirements, best: Alternative, second: Alternative) -> str:
    metric = scale(requirements.objective)[0]
    ours, theirs = requirements.value(best.metrics), requirements.value(second.metrics)
    if ours is None or theirs is None:
        return f"Next best is {second.name}."
    price = second.metrics.usd_per_million_output_tokens
    if metric == "usd_per_million_output_tokens":
        return f"Next best is {second.name} at {theirs:.3g} USD."
    if price is not None and _equal(ours, theirs):
        told = f"{label(metric)} is the same within {EQUAL:.0%}"
        return f"Next best is {second.name} at {price:.3g} USD: {told}."
    return f"Next best is {second.name}: {label(metric)} {_instead(metric, theirs, ours)}."


def _instead(metric: str, one: float, other: float) -> str:
    """A value with its unit beside another."""
    return f"{figure(metric, one)} instead of {figure(metric, other, unit=False)}"


def _equal(one: float, other: float) -> bool:
    """Whether nobody would tell them apart."""
    return abs(one - other) <= EQUAL * abs(other)


def _fallback(best: Alternative, near: Sequence[Flip], rest: Sequence[Alternative]) -> str:
    """Who wins when ordinary life brings the nearest flip, if it meets the must-haves.

    If not, the best one that is paid for in another way: what hurts the choice may not hurt it.
    """
    able = [one.name for one in rest]
    other = [one.name for one in rest if one.is_api != best.is_api]
    return next((flip.winner for flip in near if flip.winner in able), (other or able or [""])[0])


def _nothing(requirements: Requirements, order: Sequence[Alternative]) -> Verdict:
    def excess(one: Alternative) -> float:
        ratios = [_excess(miss) for miss in one.missed]
        return max(ratios, default=0.0)

    nearest = min(order, key=lambda one: (excess(one), one.name))
    text = (
        "Nothing meets the must-haves.",
        f"Nearest is {nearest.name}: it misses {_misses(nearest.missed)}.",
    )
    return Verdict(winner="", text=text, nearest=nearest.name)


def _excess(miss: Miss) -> float:
    """How far a bound is missed, as a ratio."""
    if not miss.value or not miss.bound:
        return float("inf")
    return max(miss.value / miss.bound, miss.bound / miss.value)


def _misses(missed: Sequence[Miss]) -> str:
    return " and ".join(
        f"{label(miss.metric)} "
        f"({'unknown' if miss.value is None else figure(miss.metric, miss.value)}, "
        f"{asked_text(miss.metric, miss.bound)} is asked)"
        for miss in missed
    )


def _listed(metrics: Sequence[str]) -> str:
    return ", ".join(map(label, metrics))
