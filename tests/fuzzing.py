"""Mutated input for everything that reads what others wrote, with what must not happen.

Nothing but the errors a reader declares may come out, no case may take longer than 100 ms of
processor time, and the memory of the process may not grow.
"""

from __future__ import annotations

import gc
import json
import random
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

import planner.plan.predict  # noqa: F401 - imported once a process, at no case's cost
from planner.core.errors import InvalidFileError, StaleManifestError
from planner.files.inventory import read_inventory
from planner.files.manifest import read_manifest
from planner.files.warrant import parse_signed
from planner.run.checkpoint import _read_header
from planner.run.frames import Frame, FrameError, Kind, PeerLostError, Seat, control, decode, encode
from planner.run.messages import ANSWER, PREPARING, REQUEST, Challenge, Hello, Welcome, parse
from planner.run.orders import parse_order
from planner.run.relay import Frames

MOST_S = 0.1
LIMIT_BYTES = 1 << 16
_AWKWARD = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_WORDS = [
    b"null", b"true", b"-1", b"1e999", b"NaN", b"Infinity", b"0x7f", b"{}", b"[]", b'""', b"../..",
    b"/etc/passwd", b"9" * 40, b"[" * 200, b'{"a":' * 200, b"&a [*a, *a]", b"!!python/object:os.x",
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"- " * 60, b"? ", b": ", b"*b", b"<<: *a", b"\n", b"\t",
]  # fmt: skip

Edit = tuple[str, float, int, bytes]


@dataclass(frozen=True)
class Target:
    """A reader, what it reads when all is well, and the errors it may raise."""

    name: str
    bases: Sequence[bytes]
    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    share: float = 1.0
    """Of the examples that other targets get."""


@dataclass(frozen=True)
class Outcome:
    """What came of hammering a reader."""

    examples: int
    refused: int
    seconds: float
    worst_s: float
    grown_bytes: int


def edited(base: bytes, edits: Sequence[Edit]) -> bytes:
    """A text with some edits; places are fractions of what is there."""
    data = bytearray(base)
    for how, where, number, word in edits:
        at = int(where * len(data))
        if how == "set" and data:
            data[min(at, len(data) - 1)] = number & 0xFF
        elif how == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << (number & 7)
        elif how == "integer":
            value = _AWKWARD[number % len(_AWKWARD)]
            raw = struct.pack("<Q", value)[: (1, 2, 4, 8)[number % 4]]
            data[at : at + len(raw)] = raw
        elif how == "cut":
            del data[at : at + 1 + number % 64]
        elif how == "repeat":
            data[at:at] = data[at : at + 1 + number % 64]
        elif how == "end":
            del data[at:]
        elif how == "word":
            data[at : at + number % 4] = word
    return bytes(data)


_HOW = ("set", "flip", "integer", "cut", "repeat", "end", "word", "word")
BATCH = 100
"""Cases drawn from each seed that hypothesis picks: it remembers every one of its own draws."""


def some_edits(draws: random.Random) -> list[Edit]:
    """One to four edits."""
    return [
        (
            draws.choice(_HOW),
            draws.random(),
            draws.randrange(2**16),
            draws.choice(_WORDS) if draws.random() < 0.8 else draws.randbytes(draws.randrange(7)),
        )
        for _ in range(draws.choice((1, 1, 2, 3, 4)))
    ]


def hammer(target: Target, examples: int, start: int) -> Outcome:
    """Has a reader read so many mutated inputs, the same for the same ``start``."""
    count = refused = first_bytes = 0
    worst_s = 0.0
    begun_s = time.perf_counter()

    @seed(start)
    @settings(
        max_examples=-(-examples // BATCH),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**63))
    def batch(number: int) -> None:
        nonlocal count, refused, worst_s, first_bytes
        draws = random.Random(number)
        for _ in range(BATCH):
            data = edited(draws.choice(target.bases), some_edits(draws))
            harmless, took_s = _read(target, data)
            refused += harmless
            worst_s = max(worst_s, took_s)
            count += 1
        if not first_bytes and count >= examples // 4:
            first_bytes = resident_bytes()

    batch()
    grown_bytes = resident_bytes() - first_bytes
    return Outcome(count, refused, time.perf_counter() - begun_s, worst_s, grown_bytes)


def _read(target: Target, data: bytes) -> tuple[bool, float]:
    """Whether a case was refused, and the processor time that took."""
    gc.disable()  # a collection is nobody's hang
    since_s = time.process_time()
    try:
        target.read(data)
        refused = False
    except target.errors:
        refused = True
    finally:
        took_s = time.process_time() - since_s
        gc.enable()
    assert took_s < MOST_S, f"{target.name}: {took_s:.3f} s for {data[:200]!r}"
    return refused, took_s


def resident_bytes() -> int:
    """Memory that the process has now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def targets(folder: Path, manifest: str) -> list[Target]:
    """All readers; ``folder`` takes their files, ``manifest`` is one that is good."""
    inventory = folder / "inventory.yaml"
    kept = folder / "manifest.yaml"
    warrant = folder / "manifest.yaml.warrant.json"
    tensors = folder / "tensors.safetensors"
    streams = (FrameError, PeerLostError)

    def from_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def reading(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        return reading

    return [
        Target("frames", _frames(), _read_frame, streams, 3.0),
        Target("headers", _headers(), _read_headers, streams, 3.0),
        Target("messages", _messages(), _read_message, streams, 1.0),
        Target(
            "inventories",
            [_INVENTORY],
            from_file(inventory, read_inventory),
            (InvalidFileError,),
            1.0,
        ),
        Target(
            "manifests",
            [manifest.encode()],
            from_file(kept, read_manifest),
            (InvalidFileError, StaleManifestError),
            1.0,
        ),
        Target(
            "warrants", [_warrant()], from_file(warrant, parse_signed), (InvalidFileError,), 0.5
        ),
        Target(
            "tensor headers",
            [_tensors()],
            from_file(tensors, _read_header),
            (OSError, ValueError, KeyError, TypeError, AttributeError),
            0.5,
        ),
    ]


def _frames() -> list[bytes]:
    frames = [
        Frame(Kind.PREFILL, 3, (Seat(0, 0),), "int32", 1, 1, bytes(4)),
        Frame(Kind.DECODE, 4, (Seat(1, 9), Seat(2, 7)), "bfloat16", 2, 64, bytes(256)),
        Frame(Kind.TOKENS, 5, (), "int32", 2, 1, bytes(8)),
        control({"what": "work"}),
    ]
    return [b"".join(encode(frame)) for frame in frames]


def _read_frame(data: bytes) -> object:
    frame = decode(data)
    assert len(bytes(frame.payload)) <= len(data)
    return frame


def _headers() -> list[bytes]:
    """Orders of a coordinator, one after the other as they lie on the wire."""
    load = {
        "checkpoint": "x", "start": 0, "stop": 2, "quant": "bf16", "slots": 4, "slot_tokens": 96,
        "threads": 1, "device": "cpu", "kernels": None, "secret": "0" * 32,
    }  # fmt: skip
    link = {"one_way_latency_s": 0.02, "bytes_per_s": 1e7}
    connect = {"port": 4000, "secret": "0" * 32, "link": link, "epoch": 1, "fence": 2}
    replay = {"live": [[0, 1, 20], [1, 2, 30]], "as_sent": False}
    orders = [{"load": load}, {"connect": connect}, {"replay": replay}, {"beat": 1}, {"stop": True}]
    one = [b"".join(encode(control(order))) for order in orders]
    return [*one, b"".join(one)]


def _read_headers(data: bytes) -> object:
    def judge(whole: bytes) -> bytes:
        parse_order(decode(whole))
        return whole

    passed = Frames(judge, LIMIT_BYTES)(data)
    assert len(passed) <= len(data)
    return passed


_HELLO = [TypeAdapter(Challenge), TypeAdapter(Hello), TypeAdapter(Welcome)]


def _messages() -> list[bytes]:
    source = {"node": "w1", "host": "10.0.0.2", "port": 7431, "fingerprint": "0" * 64}
    values: list[dict[str, object]] = [
        {"what": "work"},
        {"what": "deliver", "port": 40000},
        {"what": "lead", "to": source, "port": 40000},
        {"what": "fetch", "digest": "0" * 64, "offset": 0},
        {
            "what": "prepare", "warrant": "{}", "signature": "0" * 128, "checkpoint": "m",
            "sources": [source],
        },
        {"protocol": 1, "nonce": "0" * 64},
        {"nonce": "0" * 64, "to": "w1", "signature": "0" * 128},
        {"size": 1000},
        {"found_bytes": 1, "pulled_bytes": 2, "seconds": 0.5},
        {"refused": "unsigned"},
    ]  # fmt: skip
    return [json.dumps(one).encode() for one in values]


def _read_message(data: bytes) -> object:
    frame = Frame(Kind.CONTROL, 0, (), "bytes", 1, len(data), data)
    said = None
    for kind in (REQUEST, ANSWER, PREPARING, *_HELLO):
        try:
            said = parse(kind, frame)  # type: ignore[arg-type]
        except FrameError:
            continue
    if said is None:
        raise FrameError("none of them")
    return said


_INVENTORY = b"""\
keys: home
nodes:
  berlin: {address: "10.0.0.2:7431", key: %s}
  paris:
    address: "[fd00::2]:7431"
    key: %s
""" % (b"ab" * 32, b"0c" * 32)


def _warrant() -> bytes:
    one = {"node": "w0", "start": 0, "stop": 2, "quant": "bf16"}
    said = {
        "deployment": "0" * 16, "manifest": "0" * 64, "weights": "0" * 64, "epoch": 1,
        "expires": 2_000_000_000, "assignments": [one],
    }  # fmt: skip
    blob = {"name": "layer-00000", "digest": "0" * 64, "size_bytes": 100}
    pieces = {"layers": 2, "tied": False, "blobs": [blob]}
    return json.dumps(
        {"warrant": json.dumps(said), "signature": "0" * 128, "pieces": pieces}
    ).encode()


def _tensors() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(32)
