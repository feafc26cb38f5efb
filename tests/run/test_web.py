"""The OpenAI-compatible endpoint, driven by OpenAI's own client."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from tokenizers import Tokenizer

from planner.core.plan import Plan, Standby
from planner.core.problem import Serving
from planner.run import serving
from planner.run.answering import Model
from planner.run.chat import chat_template
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.losses import Care
from planner.run.seeded import make_checkpoint
from planner.run.service import OnEnd, OnToken, Service
from planner.run.serving import Gate
from planner.run.settings import Settings
from planner.run.telemetry import Telemetry
from planner.run.web import Web
from tests.run.world import chain, greedy, pipeline, problem, spec

pytestmark = [pytest.mark.slow, pytest.mark.alone]
KEY = "a key of these tests"
SEATS, WAITING, SEAT_TOKENS = 2, 2, 448


@dataclass
class Endpoint:
    """A running server."""

    folder: Path
    port: int
    service: Service
    client: openai.OpenAI
    fleet: Fleet

    @property
    def tokenizer(self) -> Tokenizer:
        return open_checkpoint(self.folder).tokenizer()

    def ask(self, method: str, path: str, body: bytes = b"", key: str = KEY) -> tuple[int, bytes]:
        """Status and body of a plain request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        said = response.status, response.read()
        connection.close()
        return said

    def settles(self, what: Callable[[], bool], within_s: float = 10.0) -> bool:
        """Whether something becomes true."""
        until_s = time.monotonic() + within_s
        while not what() and time.monotonic() < until_s:
            time.sleep(0.02)
        return what()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = make_checkpoint(tmp_path_factory.mktemp("web") / "model", spec(), dtype="fp32")
    opened = open_checkpoint(folder)
    tokenizer = opened.tokenizer()
    world = problem(3, spec(), serving=Serving(detect=2.0, patience=60.0))
    chosen = Plan(
        pipelines=(pipeline(["w0", "w1"], 4, max_num_seqs=SEATS),),
        standbys=(Standby(node="w2", pipeline=0, stage=1, state="hot"),),
    )
    settings = Settings(checkpoint=folder, slot_tokens=SEAT_TOKENS, threads=1)
    with Fleet(world.cluster, chosen, settings) as fleet:

        def make(on_token: OnToken, on_end: OnEnd) -> Session:
            care = Care(world)
            return Session(fleet, tokenizer, on_token, on_end=on_end, care=care)

        service = Service(make, seats=SEATS, slot_tokens=SEAT_TOKENS, most_waiting=WAITING)
        stops, words = frozenset(opened.config.stop_ids), opened.config.vocab_size
        model = Model("tiny", tokenizer, chat_template(folder), stops, words)
        web = Web(service, model, KEY, Telemetry("tiny", SEATS))
        sock = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(web.app(), log_level="warning", http=Gate))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = sock.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=60) as client:
            yield Endpoint(folder, port, service, client, fleet)
        server.should_exit = True
        thread.join(20)
        sock.close()
        assert not thread.is_alive()


def test_completions_are_the_models_own_tokens(endpoint: Endpoint) -> None:
    ids = endpoint.tokenizer.encode("hello there").ids
    wanted = greedy(chain(open_checkpoint(endpoint.folder), []), ids, 12)
    text = endpoint.tokenizer.decode(wanted)
    more = {"ignore_eos": True}
    for prompt in ("hello there", ids):
        said = endpoint.client.completions.create(
            model="tiny", prompt=prompt, max_tokens=12, temperature=0, extra_body=more
        )
        assert said.choices[0].text == text
        assert said.choices[0].finish_reason == "length"
        assert said.usage is not None
        assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (len(ids), 12)
    stream = endpoint.client.completions.create(
        model="tiny", prompt=ids, max_tokens=12, temperature=0, stream=True, extra_body=more
    )
    pieces = [chunk.choices[0].text for chunk in stream]
    assert "".join(pieces) == text
    assert len(pieces) >= 12


def test_chat_with_a_seed_repeats_itself_and_streams_the_same(endpoint: Endpoint) -> None:
    turns = [{"role": "user", "content": "What is new?"}]

    def ask(stream: bool) -> str:
        said = endpoint.client.chat.completions.create(
            model="tiny",
            messages=turns,
            max_completion_tokens=20,
            seed=5,
            stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )
        if not stream:
            return str(said.choices[0].message.content)
        chunks = list(said)
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens <= 20
        return "".join(c.choices[0].delta.content or "" for c in chunks[:-1])

    first = ask(stream=False)
    assert first
    assert ask(stream=False) == ask(stream=True) == first


def test_stop_strings_end_the_answer_and_free_the_seat(endpoint: Endpoint) -> None:
    ask = endpoint.client.completions.create
    values = {"model": "tiny", "prompt": "hello", "max_tokens": 200, "temperature": 0}
    whole = ask(**values, extra_body={"ignore_eos": True}).choices[0].text
    stop = whole[20:23]
    said = ask(**values, stop=[stop], extra_body={"ignore_eos": True})
    assert said.choices[0].text == whole[: whole.index(stop)]
    assert said.choices[0].finish_reason == "stop"
    assert endpoint.settles(lambda: endpoint.service.running == 0)


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/completions"])
def test_without_the_key_nothing_is_said(endpoint: Endpoint, path: str) -> None:
    method = "POST" if "completions" in path else "GET"
    for key in ("", "wrong", KEY + "x"):
        status, body = endpoint.ask(method, path, b"{}", key)
        assert status == 401
        assert b"tiny" not in body
    assert endpoint.ask("GET", "/health", key="")[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, b"JSON"),
        (b"[" * 100_000, 400, b"JSON"),
        (b'{"prompt": 1}', 400, b"prompt"),
        (b'{"prompt": "x", "n": 2}', 400, b"n is not served"),
        (b'{"prompt": "x", "top_k": 5}', 400, b"top_k is not served"),
        (b'{"prompt": "x", "presence_penalty": 0.5}', 400, b"presence_penalty is not served"),
        (b'{"prompt": ["x", "y"]}', 400, b"one prompt a request"),
        (b'{"prompt": "x", "temperature": 1e999}', 400, b"temperature"),
        (b'{"prompt": "x", "max_tokens": 0}', 400, b"max_tokens"),
        (b'{"prompt": "x", "logprobs": 3}', 400, b"logprobs"),
        (b'{"prompt": "x", "max_tokens": 1000}', 400, b"context_length_exceeded"),
        (b'{"prompt": ""}', 400, b"context_length_exceeded"),
        (b'{"prompt": [1, 999999]}', 400, b"token ids"),
        (b'{"prompt": [1, -1]}', 400, b"prompt"),
        (b'{"prompt": "x", "model": "other"}', 404, b"model_not_found"),
        (b'{"prompt": "' + b"x" * 9_000_000 + b'"}', 413, b"bytes"),
    ],
    ids=[
        "empty", "deep", "number", "n", "top_k", "penalty", "prompts", "infinite", "none",
        "logprobs", "long", "no prompt", "unknown id", "negative id", "model", "large",
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused(
    endpoint: Endpoint, body: bytes, status: int, said: bytes
) -> None:
    found, answer = endpoint.ask("POST", "/v1/completions", body)
    assert found == status, answer
    assert said in answer
    assert "message" in json.loads(answer)["error"]


def test_what_changes_nothing_is_taken(endpoint: Endpoint) -> None:
    """What clients send along that keep to the defaults of other servers."""
    neutral = {"n": 1, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "logit_bias": {}}
    plain = {"prompt": [5, 7], "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    said = []
    for more in ({}, neutral, {"prompt": [[5, 7]], "user": "u", "stop": None}):
        status, body = endpoint.ask("POST", "/v1/completions", json.dumps(plain | more).encode())
        assert status == 200, body
        said.append(json.loads(body)["choices"])
    assert said[0] == said[1] == said[2]


def test_a_long_prompt_does_not_keep_others_waiting(endpoint: Endpoint) -> None:
    long = json.dumps({"prompt": "many words " * 15_000}).encode()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(endpoint.ask, "POST", "/v1/completions", long)
        slowest_s = 0.0
        while not asked.done():
            start_s = time.monotonic()
            assert endpoint.ask("GET", "/health")[0] == 200
            slowest_s = max(slowest_s, time.monotonic() - start_s)
    status, body = asked.result()
    assert (status, b"context_length_exceeded" in body) == (400, True)
    assert slowest_s < 0.3


def test_who_asks_for_nothing_or_is_one_too_many_is_sent_away(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "request_s", 0.2)
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=5) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHo")
        assert sock.recv(1) == b""
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 0)
    with contextlib.suppress(ConnectionResetError), socket.socket() as sock:
        sock.connect(("127.0.0.1", endpoint.port))
        sock.settimeout(5)
        assert sock.recv(1) == b""


def test_a_client_that_goes_away_frees_its_seat(endpoint: Endpoint) -> None:
    for streamed in (True, False):
        sock = socket.create_connection(("127.0.0.1", endpoint.port))
        body = {"prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": streamed}
        text = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n"
        sock.sendall(head.encode() + f"Authorization: Bearer {KEY}\r\n\r\n".encode() + text)
        assert endpoint.settles(lambda: endpoint.service.running == 1)
        sock.close()
        assert endpoint.settles(lambda: endpoint.service.running == 0, 2.0), streamed


def test_beyond_the_queue_requests_are_turned_away_and_none_is_lost(endpoint: Endpoint) -> None:
    def ask(number: int) -> int:
        try:
            said = endpoint.client.completions.create(
                model="tiny",
                prompt=[number + 1],
                max_tokens=60,
                temperature=0,
                extra_body={"ignore_eos": True},
            )
        except openai.RateLimitError as error:
            return 429 if error.response.headers["retry-after"] == "1" else 0
        assert said.usage is not None
        assert said.usage.completion_tokens == 60
        return 200

    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(ask, range(24)))
    assert set(found) == {200, 429}
    assert found.count(200) >= SEATS + WAITING
    assert endpoint.settles(lambda: endpoint.service.running == 0)


def test_clients_do_not_notice_that_a_stage_is_killed(endpoint: Endpoint) -> None:
    killed: list[str] = []

    def ask(number: int) -> tuple[str, int]:
        stream = endpoint.client.completions.create(
            model="tiny",
            prompt=[number % 3 + 1],
            max_tokens=150,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
        pieces, tokens = [], 0
        for count, chunk in enumerate(stream):
            if count == 20 and number == 1 and not killed:
                victim = endpoint.fleet.holders[0, 1]
                killed.append(victim.node)
                victim.process.strike(hangs=False)
            if chunk.usage is not None:
                tokens = chunk.usage.completion_tokens
            pieces += [choice.text for choice in chunk.choices]
        return "".join(pieces), tokens

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(ask, range(12)))
    assert killed == ["w1"]
    assert endpoint.fleet.holders[0, 1].node == "w2"
    assert {tokens for _, tokens in said} == {150}
    assert all(text == said[number % 3][0] for number, (text, _) in enumerate(said))


def test_metrics_and_models(endpoint: Endpoint) -> None:
    endpoint.client.completions.create(model="tiny", prompt="x", max_tokens=3, seed=1)
    (one,) = endpoint.client.models.list().data
    assert one.id == "tiny"
    status, body = endpoint.ask("GET", "/metrics")
    assert status == 200
    text = body.decode()
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    tpot = "vllm:request_time_per_output_token_seconds"
    assert samples[f"{tpot}_count"] > 0
    assert samples[f"{tpot}_sum"] < samples["vllm:inter_token_latency_seconds_sum"]
    for name in (
        'vllm:time_to_first_token_seconds_count{model_name="tiny"}',
        'vllm:generation_tokens_total{model_name="tiny"}',
        'vllm:num_requests_running{model_name="tiny"} 0.0',
        'planner_requests_refused_total{model_name="tiny",status="429"}',
    ):
        assert name in text
