from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.core.errors import Exit, InvalidFileError
from planner.files.hfconfig import read_hf_config
from planner.run.config import parse_config, read_config
from planner.run.seeded import make_checkpoint

BASE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def parsed(**changes: Any) -> Any:
    return parse_config(BASE | changes, "config.json")


@pytest.mark.parametrize(
    ("family", "qkv_bias", "qk_norm", "head_dim"),
    [
        ("llama", False, False, 16),
        ("mistral", False, False, 16),
        ("qwen2", True, False, 16),
        ("qwen3", False, True, 128),
    ],
)
def test_families_differ_by_flags_only(
    family: str, qkv_bias: bool, qk_norm: bool, head_dim: int
) -> None:
    config = parsed(model_type=family)
    assert (config.qkv_bias, config.qk_norm, config.head_dim) == (qkv_bias, qk_norm, head_dim)


def test_biases_follow_the_family() -> None:
    assert parsed(attention_bias=True).out_bias
    assert not parsed(model_type="mistral", attention_bias=True).qkv_bias
    assert not parsed(model_type="qwen2").out_bias


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"model_type": "mistral"}, (4096,) * 4),
        ({"model_type": "mistral", "sliding_window": None}, (None,) * 4),
        ({"model_type": "qwen2", "sliding_window": 8}, (None,) * 4),
        (
            {
                "model_type": "qwen3",
                "sliding_window": 8,
                "use_sliding_window": True,
                "max_window_layers": 3,
            },
            (None, None, None, 8),
        ),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 8,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
            (8, None, 8, None),
        ),
    ],
)
def test_windows_by_layer(changes: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    assert parsed(**changes).windows == windows


@pytest.mark.parametrize(
    ("changes", "dense"),
    [
        ({"mlp_only_layers": [1]}, {1}),
        ({"decoder_sparse_step": 2}, {0, 2}),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [3]}, {0, 2, 3}),
    ],
)
def test_planner_and_runtime_agree_on_the_layers_without_experts(
    changes: dict[str, Any], dense: set[int], tmp_path: Path
) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    values = BASE | {"model_type": "qwen3_moe", **experts, **changes}
    (tmp_path / "config.json").write_text(json.dumps(values))
    planned = read_hf_config(tmp_path, "x")
    assert {at for at, layer in enumerate(planned.layers) if not layer.experts} == dense
    assert read_config(tmp_path / "config.json").dense == dense
    made = read_config(make_checkpoint(tmp_path / "made", planned, dtype="fp32") / "config.json")
    assert made.dense == dense


def test_rotary_settings_in_both_spellings() -> None:
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    old = parsed(rope_theta=5e5, rope_scaling={"rope_type": "llama3", **llama3}).rope
    new = parsed(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **llama3}).rope
    assert old == new
    assert (old.kind, old.theta, old.original_tokens) == ("llama3", 5e5, 256)
    assert parsed(rope_scaling={"type": "linear", "factor": 2.0}).rope.factor == 2.0


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model_type": "gemma2"}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_hidden_layers": "4"}, "num_hidden_layers"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "rope_scaling"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"sliding_window": 8}, "sliding_window"),
        ({"model_type": "mistral", "sliding_window": "wide"}, "sliding_window"),
        ({"layer_types": ["linear_attention"] * 4}, "layer_types"),
        ({"model_type": "qwen3", "num_key_value_heads": None}, "num_key_value_heads"),
    ],
)
def test_what_the_runtime_lacks_is_refused_by_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        parsed(**changes)
    assert key in [problem.path for problem in caught.value.problems]
    assert caught.value.exit_code is Exit.INVALID_FILE


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe\x00", b"null", b'{"model_type": []}', b"[" * 100_000],
    ids=["empty", "cut", "list", "binary", "null", "unhashable", "deep"],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InvalidFileError):
        read_config(path)


def test_a_directory_and_nothing_in_place_of_the_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(InvalidFileError):
            read_config(path)


def test_odd_values_never_escape_as_other_errors(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for key, value in [("rope_scaling", 3), ("rope_theta", "x"), ("eos_token_id", {})]:
        path.write_text(json.dumps(BASE | {key: value}))
        with pytest.raises(InvalidFileError):
            read_config(path)
