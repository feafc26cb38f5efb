"""Outcomes: what became of many requests, by column instead of one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from planner.core.metrics import RequestRecord, Status

STATUSES: Sequence[Status] = ("completed", "failed", "running")
"""By number."""

Reals = NDArray[np.float64]
Wholes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes(Sequence[RequestRecord]):
    """Records of requests in order of arrival; each is made when it is asked for.

    Times are in seconds on one clock, and infinite where something did not happen.
    """

    id: Wholes
    pipeline: Wholes
    prompt_tokens: Wholes
    output_tokens: Wholes
    arrival_s: Reals
    begun_s: Reals
    """When the first job began."""
    first_s: Reals
    """When the first token came, and the last one."""
    last_s: Reals
    status: Wholes
    """Numbers of ``STATUSES``."""
    reasons: Mapping[int, str] = field(default_factory=dict)
    """Why requests failed, by id."""
    token_s: Sequence[Sequence[float]] | None = None
    """When every token came, where that is known."""

    @classmethod
    def of(cls, records: Sequence[RequestRecord]) -> Outcomes:
        """The columns of records; themselves if they are in columns."""
        if isinstance(records, cls):
            return records
        ends = [(one.token_s[0], one.token_s[-1]) if one.token_s else _NEVER for one in records]
        begun = [np.inf if one.begun_s is None else one.begun_s for one in records]
        return cls(
            id=np.array([one.id for one in records], int),
            pipeline=np.array([one.pipeline for one in records], int),
            prompt_tokens=np.array([one.prompt_tokens for one in records], int),
            output_tokens=np.array([one.output_tokens for one in records], int),
            arrival_s=np.array([one.arrival_s for one in records], float),
            begun_s=np.array(begun, float),
            first_s=np.array([first_s for first_s, _ in ends], float),
            last_s=np.array([last_s for _, last_s in ends], float),
            status=np.array([STATUSES.index(one.status) for one in records], int),
            reasons={one.id: one.reason for one in records if one.reason},
            token_s=[one.token_s for one in records],
        )

    def where(self, status: Status) -> Outcomes:
        """The requests of which that became."""
        which = self.status == STATUSES.index(status)
        return self if which.all() else self._at(np.flatnonzero(which))

    def _at(self, places: Wholes | slice) -> Outcomes:
        """Some of them; those of a slice in the same memory."""
        columns = {name: getattr(self, name)[places] for name in _COLUMNS}
        every = self.token_s
        if every is not None:
            every = [every[place] for place in np.arange(len(every))[places]]
        return replace(self, **columns, token_s=every)

    def __len__(self) -> int:
        return len(self.id)

    @overload
    def __getitem__(self, place: int) -> RequestRecord: ...

    @overload
    def __getitem__(self, place: slice) -> Outcomes: ...

    def __getitem__(self, place: int | slice) -> RequestRecord | Outcomes:
        if isinstance(place, slice):
            return self._at(place)
        name, first_s = int(self.id[place]), float(self.first_s[place])
        delivered, begun_s = int(self.output_tokens[place]), float(self.begun_s[place])
        token_s = [] if first_s == np.inf else [first_s, float(self.last_s[place])][:delivered]
        every = None if self.token_s is None else list(self.token_s[place])
        return RequestRecord(
            name,
            int(self.pipeline[place]),
            int(self.prompt_tokens[place]),
            float(self.arrival_s[place]),
            token_s if every is None else every,
            STATUSES[self.status[place]],
            self.reasons.get(name, ""),
            delivered if every is None else None,
            None if begun_s == np.inf else begun_s,
        )

    def __iter__(self) -> Iterator[RequestRecord]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def completed(records: Sequence[RequestRecord]) -> Outcomes:
    """The requests that were answered."""
    return Outcomes.of(records).where("completed")


def failed(records: Sequence[RequestRecord]) -> Outcomes:
    """The requests that failed."""
    return Outcomes.of(records).where("failed")


_NEVER = (np.inf, np.inf)
_COLUMNS = (
    "id",
    "pipeline",
    "prompt_tokens",
    "output_tokens",
    "arrival_s",
    "begun_s",
    "first_s",
    "last_s",
    "status",
)
