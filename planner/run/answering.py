"""Answering: one answer as its client reads it, whole or as a stream."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from planner.run.chat import Template
from planner.run.openai import Request, error, usage
from planner.run.service import Answer, Service, UnavailableError
from planner.run.spelling import Spelling
from planner.run.telemetry import Telemetry

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_RETRY_S = "1"


@dataclass(frozen=True, slots=True)
class Model:
    """What is served."""

    name: str
    tokenizer: Tokenizer
    template: Template
    stop_ids: frozenset[int]
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Style:
    """How one of the two interfaces writes an answer."""

    prefix: str
    whole: str
    piece: str
    chat: bool

    def choice(self, text: str, reason: str | None, *, streamed: bool) -> dict[str, Any]:
        """An answer or a part of one."""
        if not self.chat:
            said: dict[str, Any] = {"text": text}
        elif streamed:
            said = {"delta": {"content": text} if text or reason is None else {}}
        else:
            said = {"message": {"role": "assistant", "content": text}}
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


COMPLETION = Style("cmpl", "text_completion", "text_completion", chat=False)
CHAT = Style("chatcmpl", "chat.completion", "chat.completion.chunk", chat=True)


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> Response:
        """What the client gets."""
        kind = "invalid_request_error" if self.status < 429 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        headers = {"Retry-After": _RETRY_S} if self.status in (429, 503) else None
        return JSONResponse(error(str(self), kind, self.code), self.status, headers)


class Telling:
    """One answer as it is told to its client."""

    def __init__(
        self,
        service: Service,
        telemetry: Telemetry,
        model: Model,
        answer: Answer,
        asked: Request,
        prompt_tokens: int,
        style: Style,
    ) -> None:
        self._service, self._telemetry, self._model = service, telemetry, model
        self._answer, self._asked, self._style = answer, asked, style
        self._prompt_tokens = prompt_tokens
        self._tokens = 0
        self._reason = "length"
        self._first_s: float | None = None
        self._last_s = answer.arrived_s
        """When the latest token came, or the request where none did."""
        self._head = {
            "id": f"{style.prefix}-{secrets.token_hex(12)}",
            "object": style.piece if asked.stream else style.whole,
            "created": int(time.time()),
            "model": model.name,
        }

    async def whole(self) -> Response:
        """The answer in one piece."""
        try:
            text = "".join([piece async for piece in self._pieces()])
        except UnavailableError as failed:
            raise Refused(503, failed.message) from None
        choice = self._style.choice(text, self._reason, streamed=False)
        counts = usage(self._prompt_tokens, self._tokens)
        return JSONResponse(self._head | {"choices": [choice], "usage": counts})

    async def events(self) -> AsyncIterator[bytes]:
        """The answer as server-sent events, one for every token."""
        more: dict[str, Any] = {"usage": None} if self._asked.wants_usage else {}
        if self._style.chat:
            first = {"role": "assistant", "content": ""}
            choice = {"index": 0, "delta": first, "logprobs": None, "finish_reason": None}
            yield _event(self._head | {"choices": [choice]} | more)
        try:
            async for piece in self._pieces():
                choice = self._style.choice(piece, None, streamed=True)
                yield _event(self._head | {"choices": [choice]} | more)
        except UnavailableError as failed:
            yield _event(error(failed.message, "server_error"))
            return
        choice = self._style.choice("", self._reason, streamed=True)
        yield _event(self._head | {"choices": [choice]} | more)
        if self._asked.wants_usage:
            counts = usage(self._prompt_tokens, self._tokens)
            yield _event(self._head | {"choices": [], "usage": counts})
        yield b"data: [DONE]\n\n"

    async def _pieces(self) -> AsyncIterator[str]:
        """The text token by token; leaves the session when the client does."""
        spelling = Spelling(self._model.tokenizer, self._asked.stops)
        try:
            async for token in self._answer.tokens():
                now_s = time.monotonic()
                self._telemetry.token(now_s - self._last_s, first=self._tokens == 0)
                self._last_s = now_s
                self._first_s = self._first_s or now_s
                self._tokens += 1
                yield spelling.add(token)
                if self._at_end(token):
                    self._reason = "stop"
                if spelling.stopped or self._reason == "stop":
                    break
            if spelling.stopped:
                self._reason = "stop"
            elif rest := spelling.end():
                yield rest
            self._count(self._reason)
        except (asyncio.CancelledError, GeneratorExit):
            self._count("abort")
            raise
        except UnavailableError:
            self._count("error")
            raise
        finally:
            self._service.leave(self._answer)

    def _at_end(self, token: int) -> bool:
        """Whether a token ends the answer, of which there is enough."""
        asked = self._asked
        ends = token in self._model.stop_ids and not asked.ignore_eos
        return ends and self._tokens >= asked.min_tokens

    def _count(self, reason: str) -> None:
        took_s = time.monotonic() - self._answer.arrived_s
        after_first_s = self._last_s - (self._first_s or self._last_s)
        counts = (self._prompt_tokens, self._tokens)
        self._telemetry.ended(reason, *counts, took_s, after_first_s)


def _event(values: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(values, separators=(",", ":")).encode() + b"\n\n"
