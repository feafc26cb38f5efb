"""Verification: how many sessions are computed again elsewhere, and how soon a cheat is caught."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from planner.core.spec import Spec
from planner.core.units import Count, Fraction

Chance = Annotated[Fraction, Field(gt=0, lt=1)]


class Detection(Spec):
    """How soon a node that cheats has to be caught."""

    chance: Chance = 0.95
    """Chance that it is caught within ``sessions``."""
    sessions: Count
    """Sessions that it serves."""


class Verification(Spec):
    """Receipts from every stage, and audits of some sessions."""

    audit_share: Fraction | None = None
    """Share of the sessions of every stage that another node computes again."""
    detection: Detection | None = None
    """Or: the smallest such share that catches a cheat this soon."""
    cheating_share: Annotated[Fraction, Field(gt=0)] = 1.0
    """Share of its sessions in which a node is thought to cheat."""
    power: Annotated[Fraction, Field(gt=0)] = 1.0
    """Chance that an audit rejects a session that was cheated in; `planner verify calibrate` says
    which ways to cheat it tells from honest noise."""

    @model_validator(mode="after")
    def _one_way(self) -> Verification:
        if (self.audit_share is None) == (self.detection is None):
            raise ValueError("give either audit_share: 5 % or detection: {sessions: 100}")
        if self.detection is not None and self._needed is None:
            raise ValueError(
                f"even audits of every session do not catch a cheat within "
                f"{self.detection.sessions} sessions with a chance of {self.detection.chance:g}; "
                "allow more sessions or a smaller chance"
            )
        return self

    @property
    def probability(self) -> float:
        """Chance that a session of a stage is audited."""
        needed = self._needed if self.audit_share is None else self.audit_share
        assert needed is not None
        return needed

    @property
    def _needed(self) -> float | None:
        asked = self.detection
        if asked is None:
            return None
        return audit_probability_for(asked.chance, asked.sessions, self.cheating_share, self.power)

    def sessions_until_caught(self, chance: float = 0.95) -> float:
        """Sessions until a cheating node is caught with that chance; infinite without audits."""
        return sessions_until_caught(chance, self.probability, self.cheating_share, self.power)


def detection(
    audit_probability: float, cheating_share: float, power: float, sessions: float
) -> float:
    """Probability that a node which cheats in a share of its sessions is caught within some.

    1 - (1 - p f b)^n with p the probability that a session is audited, f the share of sessions
    that are cheated in and b the probability that one audit of such a session rejects it.
    """
    return -math.expm1(
        sessions * math.log1p(-_per_session(audit_probability, cheating_share, power))
    )


def sessions_until_caught(
    caught: float, audit_probability: float, cheating_share: float, power: float
) -> float:
    """Sessions until a cheat is caught with probability ``caught``; infinite without audits."""
    rate = _per_session(audit_probability, cheating_share, power)
    return math.log1p(-caught) / math.log1p(-rate) if rate else math.inf


def audit_probability_for(
    caught: float, sessions: float, cheating_share: float, power: float
) -> float | None:
    """Smallest audit probability that catches a cheat within some sessions; None if none does."""
    needed = -math.expm1(math.log1p(-caught) / sessions) / (cheating_share * power)
    return needed if needed <= 1 else None


def deterring_probability(gain_usd: float, loss_usd: float, power: float) -> float:
    """Audit probability above which cheating does not pay.

    A cheat saves ``gain_usd`` in a session that is not caught and loses ``loss_usd`` (future
    earnings, deposit) in one that is: G (1 - p b) < p b S, so p > G / (G + S) / b.
    """
    return gain_usd / (gain_usd + loss_usd) / power


def _per_session(audit_probability: float, cheating_share: float, power: float) -> float:
    rate = audit_probability * cheating_share * power
    return min(rate, math.nextafter(1.0, 0.0))
