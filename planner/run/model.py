"""Stage: some layers of a decoder, with their weights and their KV cache.

One code path serves Llama, Mistral, Mixtral, Qwen2, Qwen3 and Qwen3-MoE. Letters in shapes: T
tokens of a prompt, B sequences in a decode step, H hidden size, N query heads, K key/value heads,
D head width, S tokens that a slot of the cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from planner.run.checkpoint import EMBEDDING, FINAL_NORM, HEAD, Checkpoint
from planner.run.linear import DTYPES, Kernels, Linear
from planner.run.mlp import Dense, Experts
from planner.run.recorded import record
from planner.run.rotary import tables
from planner.run.row import Row, row_of

Attend = Callable[["Layer", Tensor, Tensor, Tensor], Tensor]

Span = tuple[int, int, int]
"""A slot, the tokens it holds before a step, and the tokens the step adds to it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights and cache of one decoder layer."""

    qkv: Linear
    """[(N + 2 K) D, H]: the three projections in one product."""
    out: Linear
    mlp: Dense | Experts
    input_norm: Tensor
    post_norm: Tensor
    qk_norm: Tensor | None
    """[N + K, D], or None."""
    window: int | None
    keys: Tensor
    """[slots, K, S, D]"""
    values: Tensor

    @property
    def weight_bytes(self) -> int:
        """Bytes of its matrices."""
        return sum(part.weight_bytes for part in (self.qkv, self.out, self.mlp))


@dataclass(frozen=True, slots=True)
class CacheShape:
    """KV cache of a stage: sequences it can hold and tokens of each."""

    slots: int
    slot_tokens: int

    def has(self, slot: int, tokens: int) -> bool:
        """Whether there is such a slot, with room for so many tokens."""
        return slot < self.slots and tokens <= self.slot_tokens


class Stage:
    """Layers ``[start, stop)``; the first also embeds, the last also computes logits.

    A caller names the slot of each sequence. Prefilling a slot forgets what was in it, so
    nothing has to be freed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        start: int,
        stop: int,
        quant: str,
        cache: CacheShape,
        *,
        device: str = "cpu",
        kernels: Kernels | None = None,
    ) -> None:
        self.config = config = checkpoint.config
        self.first, self.last = start == 0, stop == config.layers
        self.quant, self.cache, self.device = quant, cache, torch.device(device)
        self.dtype = DTYPES[quant]
        self._checkpoint, self.kernels = checkpoint, kernels or Kernels()
        with torch.inference_mode():
            self.layers = [self._load_layer(index) for index in range(start, stop)]
            turned = tables(config.rope, config.head_dim, cache.slot_tokens)
            self._cos, self._sin = (part.to(self.device, self.dtype) for part in turned)
            self.embedding = self._load(EMBEDDING).to(self.dtype) if self.first else None
            self.norm = self._load(FINAL_NORM).to(self.dtype) if self.last else None
            self.head = self._load_head() if self.last else None
            chosen, cpu = self.kernels.compiled, self.device.type == "cpu"
            row = row_of(config, self.layers, self.norm, self.head) if chosen and cpu else None
            self.row, self.recorded = row, record(self) if chosen and not cpu else None

    @property
    def quick(self) -> bool:
        """Whether decode steps have more than torch's kernels one after the other."""
        return self.row is not None or self.recorded is not None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices it holds, scales included."""
        total = sum(layer.weight_bytes for layer in self.layers)
        total += 0 if self.embedding is None else self.embedding.nbytes
        if self.head is not None and not self._head_is_embedding:
            total += self.head.weight_bytes
        return total

    @property
    def cache_bytes(self) -> int:
        """Bytes of the KV cache."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    @torch.inference_mode()
    def prefill(self, x: Tensor, slot: int) -> Tensor:
        """One whole prompt into ``slot``: token ids [T] or hidden states [T, H].

        Returns hidden states [T, H]; the last stage returns logits [1, vocabulary] of the
        prompt's last token.
        """
        y = self.prefill_hidden(x, slot)
        return self.logits(y[-1:]) if self.last else y

    def prefill_hidden(self, x: Tensor, slot: int) -> Tensor:
        """As ``prefill``, but hidden states [T, H] from the last stage too."""
        return self.hidden(x, [(slot, 0, x.shape[0])])

    @torch.inference_mode()
    def decode(self, x: Tensor, slots: Sequence[int], positions: Sequence[int]) -> Tensor:
        """One more token for each of B sequences: token ids [B] or hidden states [B, H].

        ``positions`` are the tokens each slot already holds. Returns hidden states [B, H], or
        logits [B, vocabulary] on the last stage.
        """
        y = self.decode_hidden(x, slots, positions)
        return self.logits(y) if self.last else y

    def decode_hidden(self, x: Tensor, slots: Sequence[int], positions: Sequence[int]) -> Tensor:
        """As ``decode``, but hidden states [B, H] from the last stage too."""
        return self.hidden(x, [(slot, at, 1) for slot, at in zip(slots, positions, strict=True)])

    @torch.inference_mode()
    def hidden(self, x: Tensor, spans: Sequence[Span]) -> Tensor:
        """Hidden states [rows, H] of new tokens of some sequences, one span after the other.

        ``x`` holds token ids [rows] or hidden states [rows, H]. A span's keys and values
        overwrite what its slot held from its position on, so a step done twice leaves what it
        leaves when done once. Sequences attend one by one: on a CPU that is as fast as one
        padded product, reads no padding and gives each the result it has alone.
        """
        if self.row is not None and x.shape[0] == 1 and len(spans) == 1:
            return self._alone(self.row, self.residual(x), spans[0][0], spans[0][1])
        if self.recorded is not None and (y := self.recorded.step(x, spans)) is not None:
            return y
        slots = [slot for slot, _, tokens in spans for _ in range(tokens)]
        places = [at + step for _, at, tokens in spans for step in range(tokens)]
        where = torch.tensor(slots, device=self.device)
        when = torch.tensor(places, device=self.device)

        def attend(layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            layer.keys[where, :, when] = k
            layer.values[where, :, when] = v
            mixed, row = [], 0
            for slot, at, tokens in spans:
                mixed.append(_attend(layer, q[row : row + tokens], slot, at))
                row += tokens
            return mixed[0] if len(mixed) == 1 else torch.cat(mixed)  # [rows, N D]

        return self.through(x, when, attend)

    def through(self, x: Tensor, when: Tensor, attend: Attend) -> Tensor:
        """Hidden states [rows, H] of tokens at positions ``when`` that attend in their own way."""
        cos, sin = self._cos[when, None], self._sin[when, None]
        x = self.residual(x)
        for layer in self.layers:
            x = self._step(layer, x, cos, sin, attend)
        return x

    def _alone(self, row: Row, x: Tensor, slot: int, at: int) -> Tensor:
        """As ``hidden`` for one token at a position, by compiled programs."""
        if x.shape != (1, self.config.hidden_size) or not self.cache.has(slot, at + 1):
            raise ValueError(f"no row of this model for position {at} of slot {slot}: {x.shape}")
        cos, sin = self._cos[at : at + 1, None], self._sin[at : at + 1, None]
        for layer, step in zip(self.layers, row.steps, strict=True):
            q, k, v = step.before(x, cos, sin)
            layer.keys[slot, :, at] = k[0]
            layer.values[slot, :, at] = v[0]
            x = step.after(x, _attend(layer, q, slot, at))
        return x

    def residual(self, x: Tensor) -> Tensor:
        """What enters the first layer [rows, H]: embedded token ids, or the hidden states."""
        if self.embedding is not None:
            x = F.embedding(x, self.embedding)
        return x.to(self.dtype)

    @torch.inference_mode()
    def logits(self, y: Tensor) -> Tensor:
        """Logits [rows, vocabulary] of hidden states [rows, H]; only the last stage has a head."""
        assert self.head is not None
        if self.row is not None and y.shape == (1, self.config.hidden_size):
            return self.row.logits(y)
        return self.head(
            F.rms_norm(y, (self.config.hidden_size,), self.norm, self.config.rms_norm_eps)
        )

    def _step(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        c, eps = self.config, self.config.rms_norm_eps
        rotated = c.heads + c.kv_heads
        h = F.rms_norm(x, (c.hidden_size,), layer.input_norm, eps)
        qkv = layer.qkv(h).view(x.shape[0], -1, c.head_dim)  # [rows, N + 2 K, D]
        qk = qkv[:, :rotated]
        if layer.qk_norm is not None:
            qk = F.rms_norm(qk, (c.head_dim,), None, eps) * layer.qk_norm
        front, back = qk.chunk(2, -1)
        qk = qk * cos + torch.cat((back, front), -1) * sin
        mixed = attend(layer, qk[:, : c.heads], qk[:, c.heads :], qkv[:, rotated:])
        x = x + layer.out(mixed)
        h = F.rms_norm(x, (c.hidden_size,), layer.post_norm, eps)
        return x + layer.mlp(h)

    def _load(self, name: str) -> Tensor:
        return self._checkpoint.tensor(name).to(self.device)

    def _linear(self, prefix: str, names: Sequence[str], bias: bool) -> Linear:
        """Projections that share their input, as one product."""
        weight = torch.cat([self._load(f"{prefix}{name}.weight") for name in names])
        joined = torch.cat([self._load(f"{prefix}{name}.bias") for name in names]) if bias else None
        return Linear(weight, joined, self.quant, self.kernels)

    def _load_layer(self, index: int) -> Layer:
        c, prefix = self.config, f"model.layers.{index}."
        attention = f"{prefix}self_attn."
        qk_norm = None
        if c.qk_norm:
            query = self._load(f"{attention}q_norm.weight").expand(c.heads, -1)
            key = self._load(f"{attention}k_norm.weight").expand(c.kv_heads, -1)
            qk_norm = torch.cat((query, key))
            qk_norm = qk_norm.to(self.dtype)
        shape = (self.cache.slots, c.kv_heads, self.cache.slot_tokens, c.head_dim)
        return Layer(
            qkv=self._linear(attention, ("q_proj", "k_proj", "v_proj"), c.qkv_bias),
            out=self._linear(attention, ("o_proj",), c.out_bias),
            mlp=self._load_mlp(index),
            input_norm=self._load(f"{prefix}input_layernorm.weight").to(self.dtype),
            post_norm=self._load(f"{prefix}post_attention_layernorm.weight").to(self.dtype),
            qk_norm=qk_norm,
            window=c.windows[index],
            keys=torch.zeros(shape, dtype=self.dtype, device=self.device),
            values=torch.zeros(shape, dtype=self.dtype, device=self.device),
        )

    def _load_mlp(self, index: int) -> Dense | Experts:
        c, prefix = self.config, f"model.layers.{index}."
        mixture = c.mixture_of(index)
        if mixture is None:
            return self._dense(f"{prefix}mlp.", ("gate_proj", "up_proj"), "down_proj", c.mlp_bias)
        block = prefix + mixture.prefix
        gate, up, down = mixture.names
        router = self._load(f"{block}gate.weight").to(self.dtype)
        return Experts(
            Linear(router, None, "fp32" if self.quant == "fp32" else "bf16", self.kernels, False),
            [
                self._dense(f"{block}experts.{expert}.", (gate, up), down, False)
                for expert in range(mixture.experts)
            ],
            mixture.per_token,
            mixture.normed,
        )

    def _dense(self, prefix: str, gate_up: tuple[str, str], down: str, bias: bool) -> Dense:
        return Dense(self._linear(prefix, gate_up, bias), self._linear(prefix, (down,), bias))

    @property
    def _head_is_embedding(self) -> bool:
        return self.first and self.last and self.config.tied

    def _load_head(self) -> Linear:
        """The output head; in an int8 stage it stays bf16, as the embedding does."""
        quant = "bf16" if self.quant == "int8" else self.quant
        if self._head_is_embedding and self.embedding is not None:
            return Linear(self.embedding, None, quant, self.kernels, pack=False)
        weight = self._load(EMBEDDING if self.config.tied else HEAD)
        return Linear(weight, None, quant, self.kernels)


def _attend(layer: Layer, q: Tensor, slot: int, at: int) -> Tensor:
    """Attention [T, N D] of queries [T, N, D] at positions from ``at`` on, within one slot.

    A single token's query heads of a group become rows of one product with their key head.
    """
    tokens, stop = q.shape[0], at + q.shape[0]
    low = 0 if layer.window is None else max(0, at + 1 - layer.window)
    keys, values = layer.keys[slot, :, low:stop], layer.values[slot, :, low:stop]  # [K, S, D]
    if tokens == 1:
        grouped = q.view(1, keys.shape[0], -1, keys.shape[2])  # [1, K, N / K, D]
        mixed = F.scaled_dot_product_attention(grouped, keys[None], values[None])
        return mixed.reshape(1, -1)
    mask = _band(tokens, at - low, layer.window, q.device)
    mixed = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        keys[None],
        values[None],
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=True,
    )  # [1, N, T, D]
    return mixed[0].transpose(0, 1).flatten(1)


def _band(tokens: int, held: int, window: int | None, device: torch.device) -> Tensor | None:
    """Which keys [held + T] each of T new tokens may see; None for plainly causal."""
    if not held and (window is None or tokens <= window):
        return None
    key = torch.arange(held + tokens, device=device)
    gap = key[held:, None] - key
    return gap >= 0 if window is None else (gap >= 0) & (gap < window)
