"""Sessions through stages with notaries in this process: honest ones, and every way to cheat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.receipts.log import Log
from planner.receipts.record import Deployment, Holder, NumericClass, StageSeat, Threshold
from planner.receipts.record import public_key as public
from planner.run.auditor import Answer, audit
from planner.run.docket import Docket, Tally
from planner.run.frames import Frame, Kind, Seat
from planner.run.model import Stage
from planner.run.notary import Notary, Office, Rows
from planner.run.sampling import pick

BF16 = NumericClass(dtype="bf16", quant="bf16", kernel="sdpa")
MANIFEST = sha256(b"manifest").hexdigest()
VERIFIERS = ("verifier-1", "verifier-2")
Alter = Callable[[torch.Tensor, int], torch.Tensor]


def key(node: str) -> Ed25519PrivateKey:
    """The key of a node, the same in every test."""
    return Ed25519PrivateKey.from_private_bytes(sha256(node.encode()).digest())


def rows(x: torch.Tensor) -> Rows:
    """Rows [count, columns] as they go on the wire."""
    names = {torch.int32: "int32", torch.bfloat16: "bfloat16", torch.float32: "float32"}
    payload = x.contiguous().view(torch.uint8).numpy().tobytes()
    return Rows(names[x.dtype], x.shape[1], payload, len(x))


@dataclass
class Parade:
    """Stages of ``ends``, each on a node of its own, with a notary and two verifiers."""

    folder: Path
    honest: Sequence[Stage]
    ends: Sequence[tuple[int, int]]
    thresholds: Sequence[Threshold]
    probability: float = 1.0
    working: dict[int, Stage] = field(default_factory=dict)
    """Stages that are not what they should be, by index."""
    alter: dict[int, Alter] = field(default_factory=dict)
    """What happens to rows on the way out of a stage, after it has signed them."""
    forging: Sequence[Stage] = ()
    """Cheap stages that the tokens come from, while the activations are honest."""
    withheld: int = -1
    """Stage that does not sign the end of a session."""
    replayed: int = -1
    """Stage that sends an earlier receipt again instead of its last."""

    def __post_init__(self) -> None:
        nodes = [f"node-{index}" for index in range(len(self.ends))]
        seats = tuple(
            StageSeat(
                pipeline=0,
                stage=index,
                start=start,
                stop=stop,
                weights=sha256(str(index).encode()).hexdigest(),
                holders=tuple(
                    Holder(node=name, numeric=BF16) for name in (nodes[index], *VERIFIERS)
                ),
                thresholds=(self.thresholds[index],),
            )
            for index, (start, stop) in enumerate(self.ends)
        )
        self.deployment = Deployment(
            manifest=MANIFEST,
            keys={name: public(key(name)) for name in (*nodes, *VERIFIERS, "coordinator")},
            stages=seats,
            audit_probability=self.probability,
        )
        self.docket = Docket(Log(self.folder), self.deployment, key("coordinator"))
        self.notaries = [
            Notary(
                Office(
                    "run",
                    MANIFEST,
                    nodes[seat.stage],
                    0,
                    seat.stage,
                    seat.start,
                    seat.stop,
                    seat.weights,
                    BF16,
                    seat.stop == self.ends[-1][1],
                ),
                key(nodes[seat.stage]),
            )
            for seat in seats
        ]
        self.excluded: list[str] = []

    def serve(self, number: int, prompt: list[int], output: int, temperature: float = 0.0) -> None:
        """One session from its prompt to its audits."""
        session = f"run-0-{number}"
        self.docket.open(session, 0)
        tokens: list[int] = []
        fed, position = prompt, 0
        while len(tokens) < output:
            seat = Seat(0, position, temperature, 1.0, 7)
            token = self._step(number, fed, position, seat)
            tokens.append(token)
            position += len(fed)
            fed = [token]
        self._end(number, prompt, Answer(len(prompt), tokens, Seat(0, 0, temperature, 1.0, 7)))

    def _step(self, number: int, fed: list[int], position: int, seat: Seat) -> int:
        x = torch.tensor(fed, dtype=torch.int32)[:, None]
        cheap = self._cheap_token(fed, position, seat) if self.forging else None
        token = -1
        for index, notary in enumerate(self.notaries):
            if index in self.alter and index == 0 and position == 0:
                x = self.alter[index](x, position)
            stage = self.working.get(index, self.honest[index])
            entering = x[:, 0] if index == 0 else x
            y = _hidden(stage, entering, position)
            left = y
            if index == len(self.notaries) - 1:
                token = int(pick(stage.logits(y[-1:]), [seat], len(fed))[0])
                token = token if cheap is None else cheap
                left = torch.tensor([[token]], dtype=torch.int32)
            kind = Kind.DECODE if position else Kind.PREFILL
            job = seat._replace(tokens=len(x), session=number)
            taken = rows(x)
            frame = Frame(kind, 0, (job,), taken.dtype, len(x), taken.columns, taken.payload)
            sent = rows(left)
            result = frame._replace(
                dtype=sent.dtype, rows=len(left), columns=sent.columns, payload=sent.payload
            )
            for signed in notary.attend(frame, rows(y), result):
                self.docket.receive(signed.line)
            x = self.alter[index](left, position) if index in self.alter and index else left
        return int(x[-1, 0]) if x.shape[1] == 1 else token

    def _cheap_token(self, fed: list[int], position: int, seat: Seat) -> int:
        x = torch.tensor(fed, dtype=torch.int32)
        for stage in self.forging:
            x = _hidden(stage, x, position)
        return int(pick(self.forging[-1].logits(x[-1:]), [seat], len(fed))[0])

    def _end(self, number: int, prompt: list[int], answer: Answer) -> None:
        for index, notary in enumerate(self.notaries):
            last = notary.close(number)
            assert last is not None
            if index == self.replayed:
                last = self.notaries[index].close(number)
                assert last is not None
            if index != self.withheld:
                self.docket.receive(last.line)
        waiting = self.docket.end(f"run-0-{number}", prompt, answer.tokens)
        while waiting:
            case = waiting.pop()
            index = case.receipt.stage
            evidence = self.notaries[index].evidence(number)
            seat = self.deployment.stages[index]
            told = audit(self.honest[index], case, evidence, answer, seat, key(case.verifier))
            after = self.docket.judge(case, told.line)
            if isinstance(after, str):
                self.excluded.append(after)
            elif after is not None:
                waiting.append(after)
        for notary in self.notaries:
            notary.forget(number)

    def close(self) -> Tally:
        """Ends the log."""
        return self.docket.close()


def _hidden(stage: Stage, x: torch.Tensor, position: int) -> torch.Tensor:
    if position == 0:
        return stage.prefill_hidden(x, 0)
    return stage.decode_hidden(x, [0], [position])
