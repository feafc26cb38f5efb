"""Recorded: decode steps of a GPU as CUDA graphs, with shapes and addresses that stay.

A layer is a dozen kernels, and launching them from Python takes a processor about as long as a
fast GPU takes to read the weights of a layer. A graph launches a whole step at once. It reads and
writes the same memory every time: inputs are copied there, sequences are padded to the next
recorded number, and attention looks at a fixed reach of the cache behind a mask.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from planner.run.mlp import Dense

if TYPE_CHECKING:
    from planner.run.model import Layer, Span, Stage

Step = Callable[[], Tensor]
Capture = Callable[[Step], Step]
"""Makes a step that does the same again, on the same memory."""

ROWS = (1, 2, 4, 8, 16)
"""Sequences of the recorded steps; with more of them a step outlasts its launches anyway."""
_FIRST_REACH, _GROWTH = 256, 4
_WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded step and the memory it works on."""

    x: Tensor
    """[B] token ids or [B, H] hidden states."""
    slots: Tensor
    places: Tensor
    play: Step
    """Gives the hidden states [B, H], which the next step overwrites."""

    def of(self, x: Tensor, slots: Sequence[int], places: Sequence[int]) -> Tensor:
        """Hidden states [rows, H] of one more token for each of some sequences.

        The last of them is computed again in the rows that are left, and leaves the same.
        """
        rows, spare = len(slots), self.x.shape[0] - len(slots)
        self.x[:rows].copy_(x)
        self.x[rows:].copy_(x[-1:].expand(spare, *x.shape[1:]))
        self.slots.copy_(torch.tensor([*slots, *[slots[-1]] * spare]))
        self.places.copy_(torch.tensor([*places, *[places[-1]] * spare]))
        return self.play()[:rows].clone()


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recordings of a stage, by number of sequences and reach."""

    reaches: tuple[int, ...]
    recordings: dict[tuple[int, int], Recording]

    @torch.inference_mode()
    def step(self, x: Tensor, spans: Sequence[Span]) -> Tensor | None:
        """Hidden states [rows, H] of one new token each; None for a step that is no such one."""
        if len(spans) > ROWS[-1] or any(tokens != 1 for _, _, tokens in spans):
            return None
        rows = ROWS[bisect_left(ROWS, len(spans))]
        slots, places = [slot for slot, _, _ in spans], [at for _, at, _ in spans]
        reach = self.reaches[bisect_left(self.reaches, max(places) + 1)]
        recording = self.recordings.get((rows, reach))
        return None if recording is None else recording.of(x, slots, places)


def record(stage: Stage, capture: Capture | None = None) -> Recorded | None:
    """The steps of a stage on a GPU, recorded; None where that is not possible or goes wrong.

    Experts cannot be recorded: which of them compute is known on the processor only.
    """
    if not all(isinstance(layer.mlp, Dense) for layer in stage.layers):
        return None
    capture = capture or _on_cuda(stage.device)
    reaches = _reaches(stage.cache.slot_tokens)
    sizes = [rows for rows in ROWS if rows < 2 * stage.cache.slots]
    try:
        made = Recorded(
            reaches,
            {
                (rows, reach): _record(stage, rows, reach, capture)
                for reach in reversed(reaches)  # the largest first: the others use its memory
                for rows in reversed(sizes)
            },
        )
        return made if _sound(stage, made) else None
    except RuntimeError:  # no memory for it, or a kernel that cannot be captured
        return None


def _reaches(slot_tokens: int) -> tuple[int, ...]:
    found, reach = [], _FIRST_REACH
    while reach < slot_tokens:
        found.append(reach)
        reach *= _GROWTH
    return (*found, slot_tokens)


@torch.inference_mode()
def _record(stage: Stage, rows: int, reach: int, capture: Capture) -> Recording:
    columns = () if stage.first else (stage.config.hidden_size,)
    dtype = torch.int32 if stage.first else stage.dtype
    x = torch.zeros((rows, *columns), dtype=dtype, device=stage.device)
    slots, places = torch.zeros((2, rows), dtype=torch.int64, device=stage.device)
    return Recording(x, slots, places, capture(lambda: _step(stage, x, slots, places, reach)))


def _step(stage: Stage, x: Tensor, slots: Tensor, places: Tensor, reach: int) -> Tensor:
    """Hidden states [B, H] of one token each, at ``places`` below ``reach``.

    No shape depends on what the tensors hold.
    """
    ahead = torch.arange(reach, device=x.device) - places[:, None]  # [B, reach]

    def attend(layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        layer.keys[slots, :, places] = k
        layer.values[slots, :, places] = v
        keys, values = layer.keys[:, :, :reach][slots], layer.values[:, :, :reach][slots]
        seen = ahead <= 0
        if layer.window is not None:
            seen = seen & (ahead > -layer.window)
        grouped = q.reshape(q.shape[0], keys.shape[1], -1, q.shape[2])  # [B, K, N / K, D]
        mask = seen[:, None, None]
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        return mixed.flatten(1)  # [B, N D]

    return stage.through(x, places, attend)


@torch.inference_mode()
def _sound(stage: Stage, made: Recorded) -> bool:
    """Whether a recorded step makes of a prompt and a token what the stage itself does."""
    generator = torch.Generator().manual_seed(0)
    shape = (9,) if stage.first else (9, stage.config.hidden_size)
    x = torch.randint(stage.config.vocab_size, shape, generator=generator, dtype=torch.int32)
    if not stage.first:
        x = torch.randn(shape, generator=generator).to(stage.dtype)
    x = x.to(stage.device)
    stage.hidden(x[:8], [(0, 0, 8)])
    exact = stage.hidden(x[8:], [(0, 8, 1)]).float()
    played = made.step(x[8:], [(0, 8, 1)])
    assert played is not None
    return float((played.float() - exact).square().mean()) < 0.001 * float(exact.square().mean())


def _on_cuda(device: torch.device) -> Capture:
    """Captures steps as graphs that share the memory of what is between."""
    pool = torch.cuda.graph_pool_handle()

    def capture(step: Step) -> Step:
        with torch.cuda.device(device):
            made: type[torch.cuda.Stream] = torch.cuda.Stream
            aside, here = made(), torch.cuda.current_stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):  # what libraries set up once is no part of a step
                for _ in range(_WARM_UPS):
                    step()
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                y = step()

        def play() -> Tensor:
            graph.replay()
            return y

        return play

    return capture
