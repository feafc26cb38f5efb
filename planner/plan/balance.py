"""Balance: what share of open arrivals each of several unlike pipelines gets from the router.

The router sends a request to the pipeline with the fewest on it for its weight, and among equals to
the one that had the fewest for its weight. So a fast pipeline, which is rid of its requests sooner,
gets more of them than its weight says, as far as equals do not make up for it.

Each pipeline is taken as a birth-death chain of its own in what is on it: it gets what comes in the
states in which the others, independent of it, have no less for their weights (the cavity method for
join the shortest queue; Bramson, Lu and Prabhakar 2012). Chains and chances are found in turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.plan.costs import Array
from planner.plan.load import Pool

_BEYOND = 40
"""Requests without a seat up to which states are told apart."""
_TURNS, _SETTLED = 60, 1e-4
"""Turns at most, and the change of a share that ends them."""
_LEAST = 1e-6
"""Of ties that a pipeline gets that is always ahead of its weight."""
_ROUNDING = 1e-9

Kind = tuple[tuple[float, ...], float]
"""A pipeline: requests per second it completes with 1, 2, ... on it up to its seats; its weight."""


def balanced(kinds: Sequence[Kind], requests_per_s: float) -> list[tuple[float, Pool]]:
    """Of each pipeline the share of the requests that it gets, and what these find."""
    distinct = sorted(set(kinds))
    counts = np.array([float(kinds.count(kind)) for kind in distinct])
    found = dict(zip(distinct, _Chains(distinct, counts, requests_per_s).found(), strict=True))
    return [found[kind] for kind in kinds]


class _Chains:
    """A chain for each kind of pipeline, of which there are ``counts``."""

    def __init__(self, kinds: Sequence[Kind], counts: Array, requests_per_s: float) -> None:
        states = max(len(rates) for rates, _ in kinds) + _BEYOND
        self.rates = np.array(
            [[*rates, *(states - len(rates)) * [rates[-1]]] for rates, _ in kinds]
        )
        self.counts, self.requests_per_s = counts, requests_per_s
        weights = np.array([weight for _, weight in kinds])
        self.parts = weights / (counts @ weights)
        self.wanted = counts * self.parts
        self.seats = np.array([float(len(rates)) for rates, _ in kinds])
        self.several = int(counts @ self.seats) + _BEYOND * len(counts)
        """Requests on all pipelines up to which states are told apart."""
        burdens = np.arange(states + 1) / weights[:, None]
        self.no_less, self.more = (
            np.array(
                [[np.searchsorted(other, own + slack) for other in burdens] for own in burdens]
            )
            for slack in (-_ROUNDING, _ROUNDING)
        )
        """By kind, other kind and state of the kind: the first state of the other with no less, or
        with more."""
        self.others = counts - np.eye(len(counts))

    def found(self) -> list[tuple[float, Pool]]:
        """The share of a pipeline of each kind, and what its requests find."""
        present, chances = self._settled()
        all_present = self._all_present()
        found = []
        for kind, (here, goes) in enumerate(zip(present, chances, strict=True)):
            came = here * goes
            share = float(came.sum())
            met = float(came[1:].sum()) / share
            behind = all_present * self._behind(kind)
            pool = Pool(
                chance=float(all_present[behind > 0].sum()),
                seat_s=float(behind.sum() / self.rates[kind, -1]),
                others_busy=min(1.0, met / float(here[1:].sum())),
            )
            found.append((share, pool))
        return found

    def _all_present(self) -> Array:
        """How many are on all pipelines together, by their chances, each having its weight's part.

        Independent chains do not tell that: that all have many on them at once is what the router
        makes likely.
        """
        several = np.arange(1, self.several + 1)
        states = np.arange(self.rates.shape[1] + 1)
        served = np.zeros(self.several)
        for count, part, rates in zip(self.counts, self.parts, self.rates, strict=True):
            served += count * np.interp(several * part, states, [0.0, *rates])
        found: Array = _stationary(np.full((1, self.several), self.requests_per_s), served)[0]
        return found

    def _behind(self, kind: int) -> Array:
        """How many have to be done with before a request to such a pipeline has a seat."""
        several = np.arange(self.several + 1)
        more = np.floor(several * self.parts[kind] - self.seats[kind] + _ROUNDING)
        lacking = (more >= 0) | (several >= self.counts @ self.seats)
        behind: Array = lacking * (1 + np.maximum(0.0, more))
        return behind

    def _settled(self) -> tuple[Array, Array]:
        """How many are on a pipeline of each kind, and where a request goes, by that."""
        ties, before = self.wanted / self.counts, self.wanted
        chances = np.repeat(ties[:, None], self.rates.shape[1] + 1, axis=1)
        present = self._present(chances)
        for _ in range(_TURNS):
            chances = self._chances(present, ties)
            shares = self.counts * np.sum(present * chances, axis=1)
            chances /= shares.sum()
            shares /= shares.sum()
            if np.max(np.abs(shares - before)) < _SETTLED:
                break
            ties = np.maximum(ties * self.wanted / shares, _LEAST)
            ties /= ties.sum()
            before, present = shares, (present + self._present(chances)) / 2
        return present, chances

    def _present(self, chances: Array) -> Array:
        """How many are on a pipeline of each kind, by their chances, if requests come so."""
        return _stationary(self.requests_per_s * chances[:, :-1], self.rates)

    def _chances(self, present: Array, ties: Array) -> Array:
        """Chance that a request goes to a pipeline of each kind, by how many are on that.

        It does if nobody has less, and among those that have as much it is drawn by their part of
        the ties; how many these are is taken as the mean of that, given that there are any.
        """
        none = np.zeros((len(present), 1))
        tail = np.concatenate([np.cumsum(present[:, ::-1], axis=1)[:, ::-1], none], axis=1)
        kinds, others = np.arange(len(present))[None, :, None], self.others[:, :, None]
        no_less, more = tail[kinds, self.no_less], tail[kinds, self.more]
        equal = np.divide(no_less - more, no_less, out=np.zeros_like(more), where=no_less > 0)
        lowest, even, alone = (
            np.prod(each**others, axis=1) for each in (more, no_less, 1.0 - equal)
        )
        tied = np.einsum("kos,ko->ks", equal, self.others * ties) / np.maximum(1 - alone, 1e-300)
        drawn = ties[:, None] / (ties[:, None] + tied)
        chances: Array = lowest + (even - lowest) * drawn
        return chances


def _stationary(comes: Array, done: Array) -> Array:
    """Chances of 0, 1, ... in birth-death chains, from the rates up and down between them."""
    logs = np.cumsum(np.log(np.maximum(comes, 1e-30) / done), axis=1)
    logs = np.concatenate([np.zeros((len(logs), 1)), logs], axis=1)
    chances = np.exp(logs - logs.max(axis=1, keepdims=True))
    found: Array = chances / chances.sum(axis=1, keepdims=True)
    return found
