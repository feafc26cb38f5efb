"""An endpoint under load while one of its stages is killed: 200 requests, 16 at a time.

python -m benchmarks.serving [--guidellm PATH] [--requests 200] [--concurrency 16]

Serves a small random model from two stages with a hot standby for each, and drives it with
OpenAI's client, or with guidellm where its command is named (in a virtual environment of its own).
When a third of the requests are answered, the busiest worker process gets SIGKILL.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import openai

from planner.core.plan import Plan, Standby
from planner.core.problem import Serving
from planner.core.workload import Closed, Fixed, Workload
from planner.run.seeded import make_checkpoint
from planner.run.serving import Door, serve
from planner.run.setup import Setup
from tests.run.world import pipeline, problem, spec

MODEL = spec(
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=8,
    vocab_size=2000,
    max_position_embeddings=2048,
)
PROMPT, ANSWER, SEATS = 192, 48, 8
STORIES = [f"Tell me about number {number} and why it matters." for number in range(20)]


@dataclass(frozen=True)
class Heard:
    """One answer as a client saw it."""

    story: int
    text: str
    first_s: float
    gaps_s: list[float]
    tokens: int
    """Of the answer, as the server counts."""


def world(folder: Path, listener: socket.socket) -> None:
    """Serves until it is stopped."""
    standbys = tuple(
        Standby(node=f"w{2 + one}", pipeline=0, stage=one, state="hot") for one in (0, 1)
    )
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=SEATS),
        prompt=Fixed(tokens=PROMPT),
        output=Fixed(tokens=2 * ANSWER),
        requests=SEATS,
    )
    chosen = Plan(
        pipelines=(pipeline(["w0", "w1"], 8, max_num_seqs=SEATS, micro_batches=2),),
        standbys=standbys,
    )
    asked = problem(4, MODEL, workload=workload, serving=Serving(detect=2.0, patience=60.0))
    serve(Setup(asked, chosen, folder, threads=1), Door(listener, None, "tiny"))


@contextmanager
def endpoint(folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a server that answers."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    words = [sys.executable, "-m", "benchmarks.serving", "--serve", str(port), str(folder)]
    with subprocess.Popen(words) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until_s = time.monotonic() + 120
            while time.monotonic() < until_s:
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=2)
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.1)
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def busiest_worker(root: int) -> int:
    """The descendant without children that has computed most."""
    parents, ticks = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            ticks[int(folder.name)] = int(fields[11]) + int(fields[12])

    def below(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    leaves = [pid for pid in parents if below(pid) and pid not in parents.values() and pid != root]
    return max(leaves, key=ticks.__getitem__)


def generated(url: str) -> float:
    """Answer tokens that the server counts."""
    text = urllib.request.urlopen(f"{url}/metrics", timeout=5).read().decode()
    found = [line for line in text.splitlines() if line.startswith("vllm:generation_tokens_total{")]
    return float(found[0].split()[-1]) if found else 0.0


def kill_when(url: str, root: int, tokens: float, killed: list[float]) -> None:
    """Kills a worker once so many tokens were answered."""
    while generated(url) < tokens:
        time.sleep(0.1)
    os.kill(busiest_worker(root), signal.SIGKILL)
    killed.append(time.monotonic())


def ask(client: openai.OpenAI, number: int) -> Heard:
    """One streamed chat answer."""
    begun_s = time.monotonic()
    stream = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": STORIES[number % len(STORIES)]}],
        max_completion_tokens=ANSWER,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    text, times_s, tokens = [], [], 0
    for chunk in stream:
        if chunk.usage is not None:
            tokens = chunk.usage.completion_tokens
        elif chunk.choices[0].finish_reason is None:
            text.append(chunk.choices[0].delta.content or "")
            times_s.append(time.monotonic())
    times_s = times_s[1:]  # the first chunk names the role
    gaps_s = [after - before for before, after in pairwise(times_s)]
    return Heard(number % len(STORIES), "".join(text), times_s[0] - begun_s, gaps_s, tokens)


def by_openai(url: str, root: int, requests: int, concurrency: int) -> None:
    """Drives the endpoint with OpenAI's client and prints what it saw."""
    killed: list[float] = []
    goal = generated(url) + requests * ANSWER / 3
    threading.Thread(target=kill_when, args=(url, root, goal, killed), daemon=True).start()
    begun_s = time.monotonic()
    errors: list[str] = []
    answers: dict[int, set[str]] = defaultdict(set)
    heard: list[Heard] = []
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as client:

        def one(number: int) -> None:
            try:
                heard.append(ask(client, number))
            except openai.OpenAIError as error:
                errors.append(f"{type(error).__name__}: {error}")

        with ThreadPoolExecutor(concurrency) as pool:
            list(pool.map(one, range(requests)))
    took_s = time.monotonic() - begun_s
    for one_heard in heard:
        answers[one_heard.story].add(one_heard.text)
    gaps = sorted(gap for one_heard in heard for gap in one_heard.gaps_s)
    short = sum(one_heard.tokens != ANSWER for one_heard in heard)
    print(f"openai {openai.__version__}: {requests} requests, {concurrency} at a time")
    print(f"  answered {len(heard)}, errors {len(errors)}, of another length {short}")
    print(
        f"  stage killed after {killed[0] - begun_s:.1f} of {took_s:.1f} s" if killed else "  none"
    )
    print(f"  {len(heard) * ANSWER / took_s:.0f} tokens/s")
    first = sorted(one_heard.first_s for one_heard in heard)
    print(
        f"  first token: median {statistics.median(first) * 1e3:.0f} ms, longest {first[-1]:.2f} s"
    )
    print(f"  gap: median {statistics.median(gaps) * 1e3:.1f} ms, longest {gaps[-1]:.2f} s")
    same = sum(len(texts) == 1 for texts in answers.values())
    print(f"  {same} of {len(answers)} prompts were answered the same every time (greedy, fp32)")
    for error in sorted(set(errors)):
        print(f"  {error}")


def by_guidellm(
    command: str, url: str, root: int, requests: int, concurrency: int, folder: Path
) -> None:
    """Drives the endpoint with guidellm and prints what it reports."""
    killed: list[float] = []
    goal = generated(url) + requests * ANSWER / 3
    threading.Thread(target=kill_when, args=(url, root, goal, killed), daemon=True).start()
    out = folder.parent / "guidellm.json"
    backend = f"kind=openai_http,target={url},model=tiny,request_format=/v1/chat/completions"
    words = [
        command, "run", "--backend", backend,
        "--profile", f"kind=concurrent,streams={concurrency}",
        "--constraint", f"kind=max_requests,count={requests}",
        "--data", f"kind=synthetic_text,prompt_tokens=64,output_tokens={ANSWER}",
        "--tokenizer", f"kind=huggingface_auto,model={folder}",
        "--output", f"kind=json,path={out}", "--disable-progress",
    ]  # fmt: skip
    begun_s = time.monotonic()
    done = subprocess.run(
        words, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:])
        raise SystemExit(f"guidellm ended with {done.returncode}")
    (benchmark,) = json.loads(out.read_text())["benchmarks"]
    metrics = benchmark["metrics"]
    print(f"guidellm: {requests} requests, {concurrency} at a time")
    print(f"  {json.dumps(metrics['request_totals'])}")
    print(f"  stage killed after {killed[0] - begun_s:.1f} s" if killed else "  none killed")
    for name in ("time_to_first_token_ms", "inter_token_latency_ms", "output_tokens_per_second"):
        found = metrics[name]["successful"]
        mean, median, most = (found[one] for one in ("mean", "median", "max"))
        print(f"  {name}: mean {mean:.1f}, median {median:.1f}, max {most:.1f}")


def main() -> None:
    """Serves, drives and kills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guidellm", help="its command")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        port, folder = options.serve
        listening = socket.create_server(("127.0.0.1", int(port)))
        with contextlib.suppress(KeyboardInterrupt), listening as listener:  # how it is stopped
            world(Path(folder), listener)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = make_checkpoint(Path(name) / "model", MODEL, dtype="fp32")
        with endpoint(folder) as (url, root):
            if options.guidellm:
                by_guidellm(
                    options.guidellm, url, root, options.requests, options.concurrency, folder
                )
            else:
                by_openai(url, root, options.requests, options.concurrency)


if __name__ == "__main__":
    main()
