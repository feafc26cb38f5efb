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
from planner.run.gauge import call_s, flop_per_s, read_bytes_per_s
from planner.run.linear import Kernels, race
from planner.run.model import CacheShape, Stage
from planner.run.seeded import make_checkpoint

THIS_HOST = "this-host"
THIS_GPU = "this-gpu"

SHAPES = {
    "cpu": ((64, 4, 320), (320, 24, 4096), (768, 8, 8192), (1536, 3, 16384)),
    "cuda": ((1024, 8, 16384), (2048, 6, 32768), (4096, 4, 32768)),
}
"""Hidden size, layers and vocabulary of the models that are measured, by kind of device. On a CPU
the first one has next to no weights, so its steps show the overheads; all others are too large to
stay in its caches from step to step, as a model is that is worth running."""

SMALL = (320, 8, 4096)
"""The model of the runs that show what there is besides steps."""

DECODES = ((1, 24), (1, 1000), (2, 24), (4, 24), (4, 500), (8, 24), (16, 24))
"""Sequences of a decode step, and tokens in the cache of each."""

PREFILLS = {"cpu": (8, 32, 128, 512), "cuda": (32, 128, 512, 1000)}
"""Tokens of the prompts, by kind of device."""

_SLOTS, _SLOT_TOKENS = 16, 1024
_FORMATS: dict[str, tuple[DType, ...]] = {
    "cpu": ("fp32", "bf16", "int8"),
    "cuda": ("fp32", "bf16", "fp16", "int8"),
}
"""Number formats whose products are timed, by kind of device."""
_TORCH = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}


def measure_device(threads: int, workers: int = 1, on: str = "cpu") -> Device:
    """The host as one worker sees it: streaming read, products by number format, memory.

    ``on`` is ``cpu``, ``cuda`` or ``cuda:N``.
    """
    if _kind(on) == "cuda":
        return _measure_gpu(on)
    torch.set_num_threads(threads)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / workers
    return Device(
        id=THIS_HOST,
        name=f"{platform.processor() or platform.machine()} CPU, one of {workers} workers",
        device_class=THIS_HOST,
        memory_bytes=float(f"{memory_bytes:.4g}"),
        memory_bytes_per_s=read_bytes_per_s(on),
        flop_per_s=_peaks(on),
        call_s=call_s(on),
        threads=threads,
        host_threads=len(os.sched_getaffinity(0)),
        source="planner probe",
        as_of=datetime.datetime.now(tz=datetime.UTC).date(),
        note=f"measured with {threads} of {os.cpu_count()} cores by torch {torch.__version__}",
    )


def _peaks(on: str) -> dict[DType, float]:
    return {name: flop_per_s(_TORCH[name], on) for name in _FORMATS[_kind(on)]}


def _measure_gpu(on: str) -> Device:
    """A CUDA device, its peaks as measured on it."""
    properties = torch.cuda.get_device_properties(on)
    return Device(
        id=THIS_GPU,
        name=properties.name,
        device_class=THIS_GPU,
        memory_bytes=float(properties.total_memory),
        memory_bytes_per_s=read_bytes_per_s(on),
        flop_per_s=_peaks(on),
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

    Every point is the median of several runs after a warm-up, one step after the other as in a
    run.
    """
    shapes = SHAPES[_kind(on)]
    total = len(quants) * len(shapes) * (len(DECODES) + len(PREFILLS[_kind(on)]))
    steps: list[MeasuredStep] = []
    with tempfile.TemporaryDirectory() as folder:
        for quant in quants:
            kernels = {seats: race(quant.id, on, seats) for seats in (1, _SLOTS)}
            for shape in shapes:
                model = probe_model(*shape)
                path = make_checkpoint(Path(folder) / f"{model.id}", model)
                for batch, seconds in _time_stage(path, model, quant.id, on, kernels):
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


def _time_stage(
    path: Path, model: ModelSpec, quant: str, on: str, kernels: Mapping[int, Kernels]
) -> Iterator[tuple[Batch, float]]:
    """Batches with the seconds each took on a stage that holds the whole model.

    A worker picks its ``kernels`` for the seats it has, so single sequences are measured with
    those of one seat and everything else with those of many.
    """
    clock = Clock(on)
    for seats, chosen in kernels.items():
        stage = Stage(
            open_checkpoint(path),
            0,
            model.num_hidden_layers,
            quant,
            CacheShape(seats, _SLOT_TOKENS),
            device=on,
            kernels=chosen,
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
