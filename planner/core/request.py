"""Request: what is asked for once, and many of them by column."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload


class Request(NamedTuple):
    """One request. ``output_tokens`` is known to the oracle only; no scheduler may read it."""

    id: int
    arrival_s: float
    """When it comes; when its session begins where it follows another turn."""
    prompt_tokens: int
    output_tokens: int
    session: int | None = None
    """The conversation it is a turn of."""
    after: int | None = None
    """Id of the turn that has to be answered before; None for one that comes at its own time."""
    think_s: float = 0.0
    """From that answer until it comes."""
    shared_tokens: int = 0
    """Leading tokens of its prompt that are that turn's prompt and answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Requests(Sequence[Request]):
    """Requests that come at their own times; each is made when it is asked for."""

    id: Sequence[int]
    arrival_s: array[float]
    prompt_tokens: array[int]
    output_tokens: array[int]

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Requests | None:
        """The columns of requests; None where some are turns of a session."""
        if isinstance(requests, cls):
            return requests
        if any(one.session is not None for one in requests):
            return None
        return cls(
            id=array("q", [one.id for one in requests]),
            arrival_s=array("d", [one.arrival_s for one in requests]),
            prompt_tokens=array("q", [one.prompt_tokens for one in requests]),
            output_tokens=array("q", [one.output_tokens for one in requests]),
        )

    def __len__(self) -> int:
        return len(self.id)

    @overload
    def __getitem__(self, place: int) -> Request: ...

    @overload
    def __getitem__(self, place: slice) -> Requests: ...

    def __getitem__(self, place: int | slice) -> Request | Requests:
        kind = Requests if isinstance(place, slice) else Request
        columns = self.id, self.arrival_s, self.prompt_tokens, self.output_tokens
        return kind(*(column[place] for column in columns))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Request]:
        return map(Request, self.id, self.arrival_s, self.prompt_tokens, self.output_tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def paced(requests: Sequence[Request], requests_per_s: float) -> tuple[Request, ...]:
    """The same requests at another mean rate, all gaps stretched alike."""
    factor = mean_rate(requests) / requests_per_s
    return tuple(one._replace(arrival_s=one.arrival_s * factor) for one in requests)


def mean_rate(requests: Sequence[Request]) -> float:
    """Requests per second from the first to the last one; infinite where all come at once."""
    lasts_s = requests[-1].arrival_s - requests[0].arrival_s
    return (len(requests) - 1) / lasts_s if lasts_s else math.inf
