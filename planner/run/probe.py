"""Probe: what this host really does, measured with the code that ``run`` executes.

One worker of ``workers`` is measured: it gets its share of the cores and of the memory, as each
local worker of a run does. On a GPU (``cuda``) a worker has the device to itself.
"""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from planner.core.cost.batch import Batch
from planner.core.cost.measured import MeasuredStep
from planner.core.device import Device, DType
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.run.checkpoint import open_checkpoint
from planner.run.clock import Clock
from planner.run.linear import race
from planner.run.model import CacheShape, Stage
from planner.run.seeded import make_checkpoint

THIS_HOST = "this-host"
THIS_GPU = "this-gpu"

SHAPES = {
    "cpu": ((320, 8, 4096), (768, 4, 8192), (1536, 2, 16384)),
    "cuda": ((1024, 8, 16384), (2048, 6, 32768), (4096, 4, 32768)),
}
"""Hidden size, layers and vocabulary of the models that are measured, by kind of device."""

DECODES = ((1, 24), (1, 1000), (2, 24), (4, 24), (4, 500), (8, 24), (16, 24))
"""Sequences of a decode step, and tokens in the cache of each."""

PREFILLS = {"cpu": (8, 32, 128, 512), "cuda": (32, 128, 512, 1000)}
"""Tokens of the prompts, by kind of device."""

_SLOTS, _SLOT_TOKENS = 16, 1024
_STREAM_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}
_SIDE = {"cpu": 1536, "cuda": 8192}
"""Rows and columns of the products that show a device's peak."""


def measure_device(threads: int, workers: int = 1, on: str = "cpu") -> Device:
    """The host as one worker sees it: streaming read, products by number format, memory.

    ``on`` is ``cpu``, ``cuda`` or ``cuda:N``.
    """
    if _kind(on) == "cuda":
        return _measure_gpu(on)
    torch.set_num_threads(threads)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / workers
    formats: dict[DType, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
    compute = _flop_per_s(on, formats)
    return Device(
        id=THIS_HOST,
        name=f"{platform.processor() or platform.machine()} CPU, one of {workers} workers",
        device_class=THIS_HOST,
        memory_bytes=float(f"{memory_bytes:.4g}"),
        memory_bytes_per_s=_streaming_bytes_per_s(on),
        flop_per_s=compute,
        threads=threads,
        host_threads=len(os.sched_getaffinity(0)),
        source="planner probe",
        as_of=datetime.datetime.now(tz=datetime.UTC).date(),
        note=f"measured with {threads} of {os.cpu_count()} cores by torch {torch.__version__}",
    )


def _measure_gpu(on: str) -> Device:
    """A CUDA device, its peaks as measured on it."""
    properties = torch.cuda.get_device_properties(on)
    formats: dict[DType, torch.dtype] = {
        "fp32": torch.float32,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
    }
    return Device(
        id=THIS_GPU,
        name=properties.name,
        device_class=THIS_GPU,
        memory_bytes=float(properties.total_memory),
        memory_bytes_per_s=_streaming_bytes_per_s(on),
        flop_per_s=_flop_per_s(on, formats),
        source="planner probe",
        as_of=datetime.datetime.now(tz=datetime.UTC).date(),
        note=(
            f"compute capability {properties.major}.{properties.minor}, "
            f"torch {torch.__version__}, CUDA {torch.version.cuda}"
        ),
    )


def measure_steps(
    device: Device,
    quants: Sequence[QuantScheme],
    done: Callable[[int, int], None] = lambda _step, _of: None,
    on: str = "cpu",
) -> list[MeasuredStep]:
    """Timed steps of small random models under each scheme; calls ``done(step, of)`` after each.

    Every point is the median of several runs after a warm-up, with weights cold in cache, as
    those of a model are that does not fit into it.
    """
    shapes = SHAPES[_kind(on)]
    total = len(quants) * len(shapes) * (len(DECODES) + len(PREFILLS[_kind(on)]))
    steps: list[MeasuredStep] = []
    with tempfile.TemporaryDirectory() as folder:
        for quant in quants:
            for shape in shapes:
                model = probe_model(*shape)
                path = make_checkpoint(Path(folder) / f"{model.id}", model)
                for batch, seconds in _time_stage(path, model, quant.id, on):
                    layers = model.num_hidden_layers
                    steps.append(MeasuredStep(device, model, 0, layers, quant, batch, seconds))
                    done(len(steps), total)
    return steps


def probe_model(hidden_size: int, layers: int, vocab_size: int) -> ModelSpec:
    """A dense model of a given width, depth and vocabulary."""
    return ModelSpec(
        id=f"probe-{hidden_size}",
        family="random",
        model_type="llama",
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=max(1, hidden_size // 256),
        intermediate_size=4 * hidden_size,
        vocab_size=vocab_size,
        max_position_embeddings=2 * _SLOT_TOKENS,
        source="planner probe",
        as_of=datetime.date(2026, 1, 1),
    )


def _time_stage(path: Path, model: ModelSpec, quant: str, on: str) -> Iterator[tuple[Batch, float]]:
    """Batches with the seconds each took on a stage that holds the whole model.

    A worker picks its kernels for the seats it has, so single sequences are measured with those
    of one seat and everything else with those of many.
    """
    clock = Clock(on)
    for seats in (1, _SLOTS):
        stage = Stage(
            open_checkpoint(path),
            0,
            model.num_hidden_layers,
            quant,
            CacheShape(seats, _SLOT_TOKENS),
            device=on,
            kernels=race(quant, on, seats),
        )
        for sequences, cached in DECODES:
            if (sequences == 1) != (seats == 1):
                continue
            tokens = torch.zeros(sequences, dtype=torch.int64, device=on)
            slots, positions = list(range(sequences)), [cached] * sequences
            batch = Batch.decode(sequences, sequences * cached)
            yield batch, clock.median_s(partial(_decode, stage, tokens, slots, positions))
    for length in PREFILLS[_kind(on)]:
        prompt = torch.zeros(length, dtype=torch.int64, device=on)
        yield Batch.prefill(length), clock.median_s(partial(_prefill, stage, prompt))


def _decode(stage: Stage, tokens: Tensor, slots: list[int], positions: list[int]) -> list[int]:
    return _sampled(stage.decode(tokens, slots, positions))


def _prefill(stage: Stage, prompt: Tensor) -> list[int]:
    return _sampled(stage.prefill(prompt, 0))


def _sampled(logits: Tensor) -> list[int]:
    """Most likely tokens, as a worker of the last stage picks them."""
    picked: list[int] = logits.argmax(-1).tolist()
    return picked


def _kind(on: str) -> str:
    return on.partition(":")[0]


def _streaming_bytes_per_s(on: str) -> float:
    """What a read of much memory reaches, four digits of it."""
    data = torch.ones(_STREAM_BYTES[_kind(on)] // 4, device=on)
    return _four(data.nbytes / Clock(on).median_s(data.sum, cold=False))


def _flop_per_s(on: str, formats: Mapping[DType, torch.dtype]) -> dict[DType, float]:
    """What square products reach by number format, int8 among them."""
    side = _SIDE[_kind(on)]
    found: dict[DType, float] = {}
    for name, dtype in formats.items():
        left = torch.randn(side, side, device=on).to(dtype)
        found[name] = _rate(on, side, partial(torch.matmul, left, left))
    whole = torch.randint(-100, 100, (side, side), dtype=torch.int8, device=on)
    found["int8"] = _rate(on, side, partial(torch._int_mm, whole, whole.t()))
    return found


def _rate(on: str, side: int, product: Callable[[], object]) -> float:
    return _four(2.0 * side**3 / Clock(on).median_s(product, cold=False))


def _four(value: float) -> float:
    return float(f"{value:.4g}")
