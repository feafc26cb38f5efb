"""Web: the OpenAI-compatible face of a service."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from planner.run.answering import CHAT, COMPLETION, Model, Refused, Style, Telling
from planner.run.openai import Chat, Completion, Request
from planner.run.service import (
    Asked,
    BusyError,
    Service,
    TooLongError,
    UnavailableError,
)
from planner.run.telemetry import Telemetry

_MOST_BODY_BYTES = 8 * 2**20
_BODY_S = 30.0
_COMPLETION_TOKENS = 16
"""Length of a completion that nobody bounded, as OpenAI has it."""
_CHAT_TOKENS = 512
"""Length of a chat answer that nobody bounded, where the seat is not shorter."""
_AT_ONCE = 2**12
"""Characters that take no longer to become tokens than another thread takes to begin with it."""
R = TypeVar("R", bound=Request)


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
        if isinstance(prompt, str):
            ids = await self._made(len(prompt), lambda: self._spelled(prompt))
        else:
            ids = prompt
            if any(one >= self._model.vocabulary for one in ids):
                raise Refused(400, f"token ids are below {self._model.vocabulary}")
        most = asked.max_tokens or min(_COMPLETION_TOKENS, self._room(ids))
        return await self._answered(request, asked, ids, most, COMPLETION)

    async def _chat(self, request: HttpRequest) -> Response:
        asked = await self._parsed(request, Chat)
        turns = [(turn.role, turn.text) for turn in asked.messages]

        def spelled() -> list[int]:
            return self._spelled(self._model.template(turns), special=False)

        try:
            ids = await self._made(sum(len(text) for _, text in turns), spelled)
        except ValueError as failed:
            raise Refused(400, str(failed)) from None
        bounded = asked.max_completion_tokens or asked.max_tokens
        most = bounded or min(_CHAT_TOKENS, self._room(ids))
        return await self._answered(request, asked, ids, most, CHAT)

    def _spelled(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text; other threads go on meanwhile, which ``encode`` would not let."""
        (made,) = self._model.tokenizer.encode_batch([text], add_special_tokens=special)
        ids: list[int] = made.ids
        return ids

    async def _made(self, characters: int, make: Callable[[], list[int]]) -> list[int]:
        """Token ids that ``make`` makes, if there is room for a request at all.

        Long texts take a while, in which other clients are served.
        """
        with _refusals():
            self._service.expect_room()
        return make() if characters <= _AT_ONCE else await asyncio.to_thread(make)

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
            said = first["msg"].removeprefix("Value error, ")
            raise Refused(400, f"{where}: {said}" if where else said) from None
        if asked.model not in ("", self._model.name):
            raise Refused(404, f"the model here is {self._model.name}", "model_not_found")
        return asked

    async def _answered(
        self, request: HttpRequest, asked: Request, ids: list[int], most: int, style: Style
    ) -> Response:
        """The answer, streamed or whole."""
        endless = asked.ignore_eos or asked.min_tokens > 0
        with _refusals():
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
        telling = Telling(
            self._service, self._telemetry, self._model, answer, asked, len(ids), style
        )
        if asked.stream:
            return StreamingResponse(telling.events(), media_type="text/event-stream")
        return await _unless_gone(request, telling.whole())


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Tells the client what the service refuses."""
    try:
        yield
    except TooLongError as failed:
        raise Refused(400, failed.message, "context_length_exceeded") from None
    except BusyError as failed:
        raise Refused(429, failed.message, "too_many_requests") from None
    except UnavailableError as failed:
        raise Refused(503, failed.message) from None


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
