"""Checkpoint: a Hugging Face model directory, checked before anything is computed with it."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.core.errors import FileProblem, InvalidFileError
from planner.run.config import ModelConfig, read_config, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_MAX_HEADER_BYTES = 100 * 2**20
_MAX_PROBLEMS = 10
_HINT = "copy the checkpoint again; no file of it may be missing or cut short"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Config, tokenizer and an index of the tensors; nothing of them is in memory yet."""

    directory: Path
    config: ModelConfig
    files: dict[str, Path]
    """File that holds each tensor."""
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

        path = self.files[name]
        try:
            if path not in self._open:
                self._open[path] = safe_open(str(path), framework="pt")
            read: Tensor = self._open[path].get_tensor(name).clone()
        except (OSError, SafetensorError) as error:
            raise InvalidFileError([FileProblem(str(path), str(error), name)], _HINT) from None
        return read


def open_checkpoint(directory: Path) -> Checkpoint:
    """The checkpoint in ``directory``; raises InvalidFileError with everything that is wrong."""
    config = read_config(directory / "config.json")
    problems = []
    if not (directory / "tokenizer.json").is_file():
        problems.append(FileProblem(str(directory / "tokenizer.json"), "does not exist"))
    paths = sorted(directory.glob("*.safetensors"))
    if not paths:
        problems.append(FileProblem(str(directory), "holds no *.safetensors file"))
    files: dict[str, Path] = {}
    found: dict[str, tuple[int, ...]] = {}
    for path in _indexed(directory, paths, problems):
        try:
            shapes = _read_header(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(FileProblem(str(path), f"cannot be used: {error}"))
            continue
        found |= shapes
        files |= dict.fromkeys(shapes, path)
    if not problems:
        problems = _misfits(directory, shapes_of(config), found, files)
    if problems:
        raise InvalidFileError(problems[:_MAX_PROBLEMS], _HINT)
    return Checkpoint(directory, config, files)


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of one decoder layer, by their name within it."""
    hidden, wide = config.hidden_size, config.intermediate_size
    query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
    projections = {
        "self_attn.q_proj": (query, hidden, config.qkv_bias),
        "self_attn.k_proj": (key, hidden, config.qkv_bias),
        "self_attn.v_proj": (key, hidden, config.qkv_bias),
        "self_attn.o_proj": (hidden, query, config.out_bias),
        "mlp.gate_proj": (wide, hidden, config.mlp_bias),
        "mlp.up_proj": (wide, hidden, config.mlp_bias),
        "mlp.down_proj": (hidden, wide, config.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs, bias) in projections.items():
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)
    if config.qk_norm:
        shapes["self_attn.q_norm.weight"] = shapes["self_attn.k_norm.weight"] = (config.head_dim,)
    shapes["input_layernorm.weight"] = shapes["post_attention_layernorm.weight"] = (hidden,)
    return shapes


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a model, by name."""
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, config.hidden_size)}
    for index in range(config.layers):
        for name, shape in layer_shapes(config).items():
            shapes[f"model.layers.{index}.{name}"] = shape
    shapes[FINAL_NORM] = (config.hidden_size,)
    if not config.tied:
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


def _read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor name; raises ValueError for a file that is not whole.

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
            raise ValueError("its header is cut short")
        header = json.loads(file.read(header_bytes))
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    data_bytes = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if size_bytes < 8 + header_bytes + data_bytes:
        missing = 8 + header_bytes + data_bytes - size_bytes
        raise ValueError(f"it is cut short by {missing} bytes")
    odd = {entry["dtype"] for entry in entries.values()} - {"F32", "F16", "BF16"}
    if odd:
        raise ValueError(f"the runtime reads F32, F16 and BF16 tensors, it has {min(odd)}")
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}


def _misfits(
    directory: Path,
    wanted: dict[str, tuple[int, ...]],
    found: dict[str, tuple[int, ...]],
    files: dict[str, Path],
) -> list[FileProblem]:
    """Tensors that are missing or have another shape than config.json says."""
    problems = []
    for name, shape in wanted.items():
        if name not in found:
            problems.append(FileProblem(str(directory), "no file holds this tensor", name))
        elif found[name] != shape:
            message = f"has shape {list(found[name])}, config.json says {list(shape)}"
            problems.append(FileProblem(str(files[name]), message, name))
    return problems
