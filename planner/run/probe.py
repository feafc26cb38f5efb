"""Probe: what this host really does, measured with the code that ``run`` executes.

One worker of ``workers`` is measured: it gets its share of the cores and of the memory, as each
local worker of a run does.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from planner.core.cost.batch import Batch
from planner.core.cost.measured import MeasuredStep
from planner.core.device import Device
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.run.checkpoint import open_checkpoint
from planner.run.linear import race
from planner.run.model import CacheShape, Stage
from planner.run.seeded import make_checkpoint

THIS_HOST = "this-host"
EVICT_BYTES = 96 * 2**20
"""Read between timed steps, so that weights come from memory as they do in a pipeline."""

SHAPES = ((320, 8, 4096), (768, 4, 8192), (1536, 2, 16384))
"""Hidden size, layers and vocabulary of the models that are measured."""

DECODES = ((1, 24), (1, 1000), (2, 24), (4, 24), (4, 500), (8, 24), (16, 24))
"""Sequences of a decode step, and tokens in the cache of each."""

PREFILLS = (8, 32, 128, 512)
"""Tokens of the prompts."""

_SLOTS, _SLOT_TOKENS = 16, 1024
_POINT_BUDGET_S = 0.3
_LEAST_REPEATS = 5


def measure_device(threads: int, workers: int = 1) -> Device:
    """The host as one worker sees it: streaming read, products by number format, memory."""
    torch.set_num_threads(threads)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / workers
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    compute = {name: _flop_per_s(_square(dtype)) for name, dtype in formats.items()}
    compute["int8"] = _flop_per_s(_integers())
    return Device(
        id=THIS_HOST,
        name=f"{platform.processor() or platform.machine()} CPU, one of {workers} workers",
        device_class=THIS_HOST,
        memory_bytes=float(f"{memory_bytes:.4g}"),
        memory_bytes_per_s=float(f"{_streaming_bytes_per_s():.4g}"),
        flop_per_s={name: float(f"{rate:.4g}") for name, rate in compute.items()},
        threads=threads,
        host_threads=len(os.sched_getaffinity(0)),
        source="planner probe",
        as_of=datetime.datetime.now(tz=datetime.UTC).date(),
        note=f"measured with {threads} of {os.cpu_count()} cores by torch {torch.__version__}",
    )


def measure_steps(
    device: Device,
    quants: Sequence[QuantScheme],
    done: Callable[[int, int], None] = lambda _step, _of: None,
) -> list[MeasuredStep]:
    """Timed steps of small random models under each scheme; calls ``done(step, of)`` after each.

    Every point is the median of several runs after a warm-up, with weights cold in cache, as
    those of a model are that does not fit into it.
    """
    total = len(quants) * len(SHAPES) * (len(DECODES) + len(PREFILLS))
    steps: list[MeasuredStep] = []
    with tempfile.TemporaryDirectory() as folder:
        for quant in quants:
            for shape in SHAPES:
                model = probe_model(*shape)
                path = make_checkpoint(Path(folder) / f"{model.id}", model)
                for batch, seconds in _time_stage(path, model, quant.id):
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


def _time_stage(path: Path, model: ModelSpec, quant: str) -> Iterator[tuple[Batch, float]]:
    """Batches with the seconds each took on a stage that holds the whole model.

    A worker picks its kernels for the seats it has, so single sequences are measured with those
    of one seat and everything else with those of many.
    """
    for seats in (1, _SLOTS):
        stage = Stage(
            open_checkpoint(path),
            0,
            model.num_hidden_layers,
            quant,
            CacheShape(seats, _SLOT_TOKENS),
            kernels=race(quant, "cpu", seats),
        )
        for sequences, cached in DECODES:
            if (sequences == 1) != (seats == 1):
                continue
            tokens = torch.zeros(sequences, dtype=torch.int64)
            slots, positions = list(range(sequences)), [cached] * sequences
            batch = Batch.decode(sequences, sequences * cached)
            yield batch, _median_s(partial(_decode, stage, tokens, slots, positions))
    for length in PREFILLS:
        prompt = torch.zeros(length, dtype=torch.int64)
        yield Batch.prefill(length), _median_s(partial(_prefill, stage, prompt))


def _decode(stage: Stage, tokens: Tensor, slots: list[int], positions: list[int]) -> list[int]:
    return _sampled(stage.decode(tokens, slots, positions))


def _prefill(stage: Stage, prompt: Tensor) -> list[int]:
    return _sampled(stage.prefill(prompt, 0))


def _sampled(logits: Tensor) -> list[int]:
    """Most likely tokens, as a worker of the last stage picks them."""
    picked: list[int] = logits.argmax(-1).tolist()
    return picked


def _median_s(step: Callable[[], object]) -> float:
    """Median seconds of a step on a processor that is awake, its data cold in cache."""
    cold = torch.ones(EVICT_BYTES // 4)
    step()
    taken_s: list[float] = []
    begun_s = time.perf_counter()
    while len(taken_s) < _LEAST_REPEATS or time.perf_counter() - begun_s < _POINT_BUDGET_S:
        cold.sum()
        start_s = time.perf_counter()
        step()
        taken_s.append(time.perf_counter() - start_s)
    return statistics.median(taken_s)


def _streaming_bytes_per_s() -> float:
    data = torch.ones(256 * 2**20 // 4)
    data.sum()
    taken_s = []
    for _ in range(7):
        start_s = time.perf_counter()
        data.sum()
        taken_s.append(time.perf_counter() - start_s)
    return data.nbytes / statistics.median(taken_s)


_SIDE = 1536


def _square(dtype: torch.dtype) -> Callable[[], object]:
    left = torch.randn(_SIDE, _SIDE).to(dtype)
    return lambda: left @ left


def _integers() -> Callable[[], object]:
    left = torch.randint(-100, 100, (_SIDE, _SIDE), dtype=torch.int8)
    return lambda: torch._int_mm(left, left.t())


def _flop_per_s(product: Callable[[], object]) -> float:
    product()
    taken_s = []
    for _ in range(5):
        start_s = time.perf_counter()
        product()
        taken_s.append(time.perf_counter() - start_s)
    return 2.0 * _SIDE**3 / statistics.median(taken_s)
