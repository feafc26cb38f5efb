"""Panel: the verifiers of a run, processes of their own, and what they are asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.core.errors import PlannerError
from planner.receipts.record import StageSeat
from planner.run.crew import START_S, Post, Worker
from planner.run.docket import Case
from planner.run.fleet import Fleet
from planner.run.prompts import Prompt

_AUDIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Question:
    """A session as the coordinator knows it, for a verifier to compute again."""

    session: int
    prompt: Prompt
    prompt_tokens: int
    tokens: list[int]
    """Those that came out."""


class Panel:
    """Starts verifiers on the machines of the nodes in whose name they look."""

    def __init__(self, fleet: Fleet, key: Callable[[str], Ed25519PrivateKey]) -> None:
        self._fleet, self._key = fleet, key
        self._workers: dict[str, Worker] = {}
        self._held: dict[Worker, set[Post]] = defaultdict(set)

    def convene(self, first: Mapping[Post, str]) -> None:
        """Has all who look ``first`` at some stage hold and warm it up; raises WorkerLostError.

        Before a run: loading takes cores away from it, and a first audit would take far longer
        than those that follow.
        """
        orders = [(self._worker(name), post) for post, name in first.items()]
        for worker, post in orders:
            self._hold(worker, post)
        for worker, post in orders:
            self._holds(worker, post)

    def ask(
        self, case: Case, seat: StageSeat, question: Question, prover: Worker
    ) -> dict[str, Any]:
        """A verifier's signed answer, and what it took; raises WorkerLostError.

        The prover hands the bytes it signed to the verifier itself.
        """
        verifier, post = self._worker(case.verifier), (seat.pipeline, seat.stage)
        try:
            if post not in self._held[verifier]:
                self._hold(verifier, post)
                self._holds(verifier, post)
            verifier.tell({"audit": self._order(case, seat, question)})
            there = verifier.hear("auditing", _AUDIT_S)
            surrender = {
                "session": question.session,
                "port": prover.place.port_to(verifier.place, there["port"]),
                "secret": self._fleet.secret,
                "name": case.digest,
            }
            prover.tell({"surrender": surrender})
            return verifier.hear("audited", _AUDIT_S)
        except PlannerError:
            self._workers.pop(case.verifier, None)
            raise

    def dismiss(self) -> None:
        """Ends all verifiers."""
        for worker in self._workers.values():
            self._fleet.fence_off(worker)

    def _worker(self, name: str) -> Worker:
        if name not in self._workers or self._workers[name].lost:
            self._workers[name] = self._fleet.spawn(name)
        return self._workers[name]

    def _hold(self, worker: Worker, post: Post) -> None:
        worker.tell({"hold": self._fleet.order(worker, post)})

    def _holds(self, worker: Worker, post: Post) -> None:
        worker.hear("held", START_S)
        self._held[worker].add(post)

    def _order(self, case: Case, seat: StageSeat, question: Question) -> dict[str, Any]:
        prompt = question.prompt
        return {
            "receipt": case.receipt.model_dump(mode="json"),
            "digest": case.digest,
            "verifier": case.verifier,
            "seat": seat.model_dump(mode="json"),
            "quant": self._fleet.stage((seat.pipeline, seat.stage)).quant,
            "secret": self._fleet.secret,
            "key": self._key(case.verifier).private_bytes_raw().hex(),
            "prompt_tokens": question.prompt_tokens,
            "tokens": question.tokens,
            "picking": (0, 0, prompt.temperature, prompt.top_p, prompt.seed),
        }
