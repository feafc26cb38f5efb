"""Checkpoint: a Hugging Face model directory, checked before anything is computed with it."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.core.errors import FileProblem, InvalidFileError, RunError
from planner.core.model import ModelSpec
from planner.run.config import ModelConfig, read_config, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_MAX_HEADER_BYTES = 16 * 2**20
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_MAX_PROBLEMS = 10
_HINT = "copy the checkpoint again; no file of it may be missing or cut short"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Byte of the file at which it begins."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Config, tokenizer and an index of the tensors; nothing of them is in memory yet."""

    directory: Path
    config: ModelConfig
    entries: dict[str, Entry]
    """Tensors by name."""
    _open: dict[Path, Any] = field(default_factory=dict, repr=False)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer; raises InvalidFileError."""
        from tokenizers import Tokenizer

        path = self.directory / "tokenizer.json"
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise InvalidFileError([FileProblem(str(path), f"is no tokenizer: {error}")]) from None

    def tensor(self, name: str) -> Tensor:
        """One tensor, read into memory of its own; raises InvalidFileError."""
        from safetensors import SafetensorError, safe_open

        path = self.entries[name].path
        try:
            if path not in self._open:
                self._open[path] = safe_open(str(path), framework="pt")
            read: Tensor = self._open[path].get_tensor(name).clone()
        except (OSError, SafetensorError) as error:
            raise InvalidFileError([FileProblem(str(path), str(error), name)], _HINT) from None
        return read


def open_checkpoint(directory: Path, layers: range | None = None) -> Checkpoint:
    """The checkpoint in ``directory``; raises InvalidFileError with everything that is wrong.

    It has to be whole, or to hold ``layers`` and what belongs to the model's ends if they do;
    then it needs no tokenizer.
    """
    config = read_config(directory / "config.json")
    problems = []
    if layers is None and not (directory / "tokenizer.json").is_file():
        problems.append(FileProblem(str(directory / "tokenizer.json"), "does not exist"))
    paths = sorted(directory.glob("*.safetensors"))
    if not paths:
        problems.append(FileProblem(str(directory), "holds no *.safetensors file"))
    found: dict[str, Entry] = {}
    for path in _indexed(directory, paths, problems):
        try:
            found |= _read_header(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(FileProblem(str(path), f"cannot be used: {error}"))
    if not problems:
        problems = _misfits(directory, shapes_of(config, layers), found)
    if problems:
        raise InvalidFileError(problems[:_MAX_PROBLEMS], _HINT)
    return Checkpoint(directory, config, found)


def same_shape(model: ModelSpec, config: ModelConfig, hint: str) -> None:
    """Raises RunError unless a checkpoint has the shape that was planned for."""
    pairs = {
        "num_hidden_layers": (model.num_hidden_layers, config.layers),
        "hidden_size": (model.hidden_size, config.hidden_size),
        "intermediate_size": (model.intermediate_size, config.intermediate_size),
        "num_attention_heads": (model.num_attention_heads, config.heads),
        "num_key_value_heads": (model.num_key_value_heads, config.kv_heads),
        "head_dim": (model.head_width, config.head_dim),
        "vocab_size": (model.vocab_size, config.vocab_size),
    }
    differing = [
        f"{k} is {found}, not {planned}"
        for k, (planned, found) in pairs.items()
        if found != planned
    ]
    if differing:
        raise RunError(
            f"the checkpoint is no {model.id}: {'; '.join(differing)}",
            hint,
        )


def layer_shapes(config: ModelConfig, index: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of one decoder layer, by their name within it."""
    hidden = config.hidden_size
    query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
    projections = {
        "self_attn.q_proj": (query, hidden, config.qkv_bias),
        "self_attn.k_proj": (key, hidden, config.qkv_bias),
        "self_attn.v_proj": (key, hidden, config.qkv_bias),
        "self_attn.o_proj": (hidden, query, config.out_bias),
    } | _mlp_projections(config, index)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs, bias) in projections.items():
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)
    if config.qk_norm:
        shapes["self_attn.q_norm.weight"] = shapes["self_attn.k_norm.weight"] = (config.head_dim,)
    shapes["input_layernorm.weight"] = shapes["post_attention_layernorm.weight"] = (hidden,)
    return shapes


def _mlp_projections(config: ModelConfig, index: int) -> dict[str, tuple[int, int, bool]]:
    """Outputs, inputs and whether there is a bias, by name."""
    hidden, wide, mixture = config.hidden_size, config.intermediate_size, config.mixture_of(index)
    if mixture is None:
        return {
            "mlp.gate_proj": (wide, hidden, config.mlp_bias),
            "mlp.up_proj": (wide, hidden, config.mlp_bias),
            "mlp.down_proj": (hidden, wide, config.mlp_bias),
        }
    gate, up, down = mixture.names
    found = {f"{mixture.prefix}gate": (mixture.experts, hidden, False)}
    for expert in range(mixture.experts):
        each = f"{mixture.prefix}experts.{expert}."
        found |= {
            f"{each}{gate}": (mixture.width, hidden, False),
            f"{each}{up}": (mixture.width, hidden, False),
            f"{each}{down}": (hidden, mixture.width, False),
        }
    return found


def shapes_of(config: ModelConfig, layers: range | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a model by name, or of what a stage of ``layers`` needs."""
    layers = range(config.layers) if layers is None else layers
    first, last = 0 in layers, config.layers - 1 in layers
    shapes: dict[str, tuple[int, ...]] = {}
    if first or (last and config.tied):
        shapes[EMBEDDING] = (config.vocab_size, config.hidden_size)
    for index in layers:
        for name, shape in layer_shapes(config, index).items():
            shapes[f"model.layers.{index}.{name}"] = shape
    if last:
        shapes[FINAL_NORM] = (config.hidden_size,)
    if last and not config.tied:
        shapes[HEAD] = (config.vocab_size, config.hidden_size)
    return shapes


def _indexed(directory: Path, paths: list[Path], problems: list[FileProblem]) -> list[Path]:
    """The files that the index names, where there is one; else all of them."""
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return paths
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict):
        problems.append(FileProblem(str(index), "lacks weight_map", "weight_map"))
        return []
    wanted = sorted({directory / str(name) for name in named.values()})
    for path in wanted:
        if path not in paths:
            problems.append(FileProblem(str(path), f"does not exist, but {index.name} names it"))
    return [path for path in wanted if path in paths]


def _read_header(path: Path) -> dict[str, Entry]:
    """Tensors of a file by name; raises ValueError for one that is not whole.

    The format is 8 bytes of header length, a JSON header and the data
    (https://github.com/huggingface/safetensors#format).
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ValueError("it is shorter than its prefix")
        (header_bytes,) = struct.unpack("<Q", prefix)
        if header_bytes > min(_MAX_HEADER_BYTES, size_bytes - 8):
            raise ValueError("its header is cut short or too large")
        header = json.loads(file.read(header_bytes))
    begin = 8 + header_bytes
    entries = {
        name: _entry(path, begin, name, described)
        for name, described in header.items()
        if name != "__metadata__"
    }
    ends = max((entry.offset + entry.size_bytes for entry in entries.values()), default=begin)
    if size_bytes < ends:
        raise ValueError(f"it is cut short by {ends - size_bytes} bytes")
    return entries


def _entry(path: Path, begin: int, name: str, described: dict[str, Any]) -> Entry:
    """One tensor of a header; raises ValueError where its figures contradict each other."""
    dtype, shape, (start, stop) = described["dtype"], described["shape"], described["data_offsets"]
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"the runtime reads F32, F16 and BF16 tensors, it has {dtype}")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(f"tensor {name} has a shape or place that is none")
    if stop - start != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ValueError(f"tensor {name} has another size than shape")
    return Entry(path, dtype, tuple(shape), begin + start, stop - start)


def _misfits(
    directory: Path, wanted: dict[str, tuple[int, ...]], found: dict[str, Entry]
) -> list[FileProblem]:
    """Tensors that are missing or have another shape than config.json says."""
    problems = []
    for name, shape in wanted.items():
        if name not in found:
            problems.append(FileProblem(str(directory), "no file holds this tensor", name))
        elif found[name].shape != shape:
            message = f"has shape {list(found[name].shape)}, config.json says {list(shape)}"
            problems.append(FileProblem(str(found[name].path), message, name))
    return problems
