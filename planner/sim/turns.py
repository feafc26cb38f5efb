"""Turns: requests that come some time after an answer, and where their sessions are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field

from planner.core.workload import Request


@dataclass(slots=True)
class Turns:
    """The turns of sessions that are still to come."""

    requests: InitVar[Iterable[Request]]
    _later: dict[int, Request] = field(init=False)
    """By the turn before."""
    _homes: dict[int, int] = field(default_factory=dict)
    """By session: the pipeline that has had its latest turn."""

    def __post_init__(self, requests: Iterable[Request]) -> None:
        self._later = {one.after: one for one in requests if one.after is not None}

    @property
    def any(self) -> bool:
        """Whether turns are still to come."""
        return bool(self._later)

    def after(self, request: int) -> Request | None:
        """The turn that follows the answer to a request; it is asked for once."""
        return self._later.pop(request, None)

    def give_up(self, request: int) -> int:
        """Forgets the turns after one that got no answer; how many they were."""
        given_up = 0
        turn = self._later.pop(request, None)
        while turn is not None:
            given_up += 1
            turn = self._later.pop(turn.id, None)
        return given_up

    def home(self, session: int | None) -> int | None:
        """The pipeline of a session's latest turn."""
        return None if session is None else self._homes.get(session)

    def settle(self, session: int | None, pipeline: int) -> None:
        """Notes where a session's latest turn went."""
        if session is not None:
            self._homes[session] = pipeline
