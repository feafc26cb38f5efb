"""Web: the OpenAI-compatible face of a service."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from planner.run.chat import Template
from planner.run.openai import Chat, Completion, Request, error, usage
from planner.run.service import (
    Answer,
    Asked,
    BusyError,
    Service,
    TooLongError,
    UnavailableError,
)
from planner.run.spelling import Spelling
from planner.run.telemetry import Telemetry

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_BODY_BYTES = 8 * 2**20
_BODY_S = 30.0
_COMPLETION_TOKENS = 16
"""Length of a completion that nobody bounded, as OpenAI has it."""
_CHAT_TOKENS = 512
"""Length of a chat answer that nobody bounded, where the seat is not shorter."""
_RETRY_S = "1"
R = TypeVar("R", bound=Request)


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


_COMPLETION = Style("cmpl", "text_completion", "text_completion", chat=False)
_CHAT = Style("chatcmpl", "chat.completion", "chat.completion.chunk", chat=True)


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


class Web:
    """Routes of one service."""

    def __init__(
        self, service: Service, model: Model, api_key: str | None, telemetry: Telemetry
    ) -> None:
        self._service, self._model = service, model
        self._key, self._telemetry = api_key, telemetry
        self._begun = int(time.time())

    def app(self, ready: Callable[[], None] = lambda: None) -> Starlette:
        """The application, which starts and stops the service with itself."""

        @contextlib.asynccontextmanager
        async def life(_: Starlette) -> AsyncIterator[None]:
            self._service.start(asyncio.get_running_loop())
            ready()
            yield
            await asyncio.to_thread(self._service.stop)

        return Starlette(
            routes=[
                Route("/v1/completions", self._guarded(self._completion), methods=["POST"]),
                Route("/v1/chat/completions", self._guarded(self._chat), methods=["POST"]),
                Route("/v1/models", self._guarded(self._models)),
                Route("/metrics", self._guarded(self._metrics)),
                Route("/health", self._health),
            ],
            lifespan=life,
        )

    def _guarded(
        self, handle: Callable[[HttpRequest], Awaitable[Response]]
    ) -> Callable[[HttpRequest], Awaitable[Response]]:
        """The same, for those who have the key; every refusal is counted."""

        async def guarded(request: HttpRequest) -> Response:
            try:
                self._check_key(request)
                return await handle(request)
            except Refused as refused:
                self._telemetry.refused(refused.status)
                return refused.response()

        return guarded

    def _check_key(self, request: HttpRequest) -> None:
        if self._key is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._key.encode())
        if scheme.lower() != "bearer" or not right:
            raise Refused(401, "a valid API key is needed: Authorization: Bearer KEY", "bad_key")

    async def _health(self, _: HttpRequest) -> Response:
        failure = self._service.failure
        return Response(status_code=503 if failure else 200)

    async def _metrics(self, _: HttpRequest) -> Response:
        text = self._telemetry.text(self._service.running, self._service.waiting)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _models(self, _: HttpRequest) -> Response:
        one = {
            "id": self._model.name,
            "object": "model",
            "created": self._begun,
            "owned_by": "planner",
            "max_model_len": self._service.slot_tokens,
        }
        return JSONResponse({"object": "list", "data": [one]})

    async def _completion(self, request: HttpRequest) -> Response:
        asked = await self._parsed(request, Completion)
        prompt = asked.prompt
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
            prompt = prompt[0]
        if isinstance(prompt, str):
            ids = self._model.tokenizer.encode(prompt).ids
        else:
            ids = [one for one in prompt if isinstance(one, int)]
            if any(one >= self._model.vocabulary for one in ids):
                raise Refused(400, f"token ids are below {self._model.vocabulary}")
        most = asked.max_tokens or min(_COMPLETION_TOKENS, self._room(ids))
        return await self._answered(request, asked, ids, most, _COMPLETION)

    async def _chat(self, request: HttpRequest) -> Response:
        asked = await self._parsed(request, Chat)
        try:
            text = self._model.template([(turn.role, turn.text) for turn in asked.messages])
        except ValueError as failed:
            raise Refused(400, str(failed)) from None
        ids = self._model.tokenizer.encode(text, add_special_tokens=False).ids
        bounded = asked.max_completion_tokens or asked.max_tokens
        most = bounded or min(_CHAT_TOKENS, self._room(ids))
        return await self._answered(request, asked, ids, most, _CHAT)

    def _room(self, ids: list[int]) -> int:
        """Tokens that still fit the seat of a prompt."""
        return max(1, self._service.slot_tokens - len(ids))

    async def _parsed(self, request: HttpRequest, kind: type[R]) -> R:
        """The body as a request of a kind, if it is one and for this model."""
        try:
            async with asyncio.timeout(_BODY_S):
                body = await _body(request)
            asked = kind.model_validate_json(body)
        except TimeoutError:
            raise Refused(408, "the request took too long to come") from None
        except ValidationError as failed:
            first = failed.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Refused(400, f"{where}: {first['msg']}") from None
        if asked.model not in ("", self._model.name):
            raise Refused(404, f"the model here is {self._model.name}", "model_not_found")
        return asked

    async def _answered(
        self, request: HttpRequest, asked: Request, ids: list[int], most: int, style: Style
    ) -> Response:
        """The answer, streamed or whole."""
        endless = asked.ignore_eos or asked.min_tokens > 0
        try:
            answer = self._service.ask(
                Asked(
                    ids,
                    most,
                    1.0 if asked.temperature is None else asked.temperature,
                    1.0 if asked.top_p is None else asked.top_p,
                    (secrets.randbits(63) if asked.seed is None else asked.seed) % 2**63,
                    frozenset() if endless else self._model.stop_ids,
                )
            )
        except TooLongError as failed:
            raise Refused(400, failed.message, "context_length_exceeded") from None
        except BusyError as failed:
            raise Refused(429, failed.message, "too_many_requests") from None
        except UnavailableError as failed:
            raise Refused(503, failed.message) from None
        telling = _Telling(self, answer, asked, len(ids), style)
        if asked.stream:
            return StreamingResponse(telling.events(), media_type="text/event-stream")
        return await _unless_gone(request, telling.whole())


class _Telling:
    """One answer as it is told to its client."""

    def __init__(
        self, web: Web, answer: Answer, asked: Request, prompt_tokens: int, style: Style
    ) -> None:
        self._service, self._telemetry = web._service, web._telemetry
        self._answer, self._asked, self._style = answer, asked, style
        self._model, self._prompt_tokens = web._model, prompt_tokens
        self._tokens = 0
        self._reason = "length"
        self._head = {
            "id": f"{style.prefix}-{secrets.token_hex(12)}",
            "object": style.piece if asked.stream else style.whole,
            "created": int(time.time()),
            "model": web._model.name,
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
        last_s = self._answer.arrived_s
        try:
            async for token in self._answer.tokens():
                now_s = time.monotonic()
                self._telemetry.token(now_s - last_s, first=self._tokens == 0)
                last_s = now_s
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
        self._telemetry.ended(reason, self._prompt_tokens, self._tokens, took_s)


def _event(values: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(values, separators=(",", ":")).encode() + b"\n\n"


async def _body(request: HttpRequest) -> bytes:
    """The whole body, of a bounded size."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            raise Refused(413, f"a request has at most {_MOST_BODY_BYTES} bytes")
    return bytes(body)


async def _unless_gone(request: HttpRequest, making: Awaitable[Response]) -> Response:
    """The response, given up as soon as the client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    made, left = asyncio.ensure_future(making), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((made, left), return_when=asyncio.FIRST_COMPLETED)
        if made.done():
            return made.result()
        return Response(status_code=499)
    finally:
        for task in (made, left):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
