from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.core.errors import InvalidFileError
from planner.files.hfconfig import read_hf_config

SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
LATENT = {
    "n_routed_experts": 8,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": 64,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "granite": {},
    "olmo2": {},
    "smollm3": {"pad_token_id": 0},
    "mistral": {},
    "phi3": {"pad_token_id": 0},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {},
    "gemma3_text": {},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 8, "mlp_only_layers": [1, 4], **EXPERTS},
    "deepseek_v2": {**LATENT, **EXPERTS},
    "deepseek_v3": {**LATENT, **EXPERTS},
    "gpt_oss": {"num_local_experts": 8, "num_experts_per_tok": 2},
}


def write(folder: Path, **values: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_that_transformers_makes(family: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(family, **SHAPE, **FAMILIES[family])
    with torch.device("meta"):
        made = transformers.AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    found = read_hf_config(tmp_path, "x")
    assert found.total_params == pytest.approx(
        sum(parameter.numel() for parameter in made.parameters()), rel=0.003
    )
    if found.layer_types:
        assert list(found.layer_types) == list(getattr(config, "layer_types", found.layer_types))


def test_windows_are_kept_where_the_config_uses_them(tmp_path: Path) -> None:
    windows = {
        ("mistral", 4096): ["sliding_attention"] * 6,
        ("gemma2", 4096): ["sliding_attention", "full_attention"] * 3,
        ("gemma3_text", 512): ["sliding_attention"] * 5 + ["full_attention"],
        ("gpt_oss", 128): ["sliding_attention", "full_attention"] * 3,
    }
    for (family, window), kinds in windows.items():
        extra = FAMILIES[family]
        folder = write(tmp_path, model_type=family, sliding_window=window, **SHAPE, **extra)
        found = read_hf_config(folder, "x")
        assert (found.sliding_window, list(found.layer_types or [])) == (window, kinds)
    folder = write(tmp_path, model_type="mistral", sliding_window=None, **SHAPE)
    assert read_hf_config(folder, "x").layer_types is None
    folder = write(tmp_path, model_type="qwen2", sliding_window=4096, **SHAPE)
    assert read_hf_config(folder, "x").layer_types is None


def test_the_same_config_gives_the_same_model_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "net").mkdir(parents=True)
        write(tmp_path / name / "net", model_type="llama", **SHAPE)
    models = [read_hf_config(tmp_path / name / "net", "./net") for name in ("one", "two")]
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model_type": "mamba"}', "model_type: 'mamba' is no architecture known here"),
        ("{}", "model_type: None is no architecture known here"),
        ('{"model_type": "llama"}', "hidden_size: must be a whole number above zero"),
        ('{"model_type": ', "config.json:1:16: is no JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "is no JSON"),
        (json.dumps({"model_type": "mixtral", **SHAPE}), "is no usable model config"),
        (json.dumps({"model_type": "llama", **SHAPE, "vocab_size": -1}), "vocab_size: "),
        (json.dumps({"model_type": "llama", **SHAPE, "num_attention_heads": 7}), "no multiple"),
        (
            json.dumps({"model_type": "gemma2", **SHAPE, "num_hidden_layers": 10**12}),
            "num_hidden_layers: has more than 10000 layers",
        ),
        (json.dumps({"model_type": "qwen2", **SHAPE, "num_hidden_layers": "x"}), "num_hidden"),
    ],
)
def test_what_is_no_usable_config_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidFileError) as caught:
        read_hf_config(tmp_path, "x")
    assert said in caught.value.message
