from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.world import Terminal

KEYS = {
    "schema_version",
    "model",
    "device",
    "engine",
    "quant",
    "batch",
    "prefill_tok_s",
    "decode_tok_s",
    "ttft_ms",
    "tpot_ms",
    "memory_gib",
    "fits",
    "kv_capacity_tokens",
    "breakdown",
    "prefill_breakdown",
    "tier",
    "error_band",
}
LLAMA = ("estimate", "--model", "llama-3.1-8b", "--device", "rtx-4090", "--format", "json")


def test_json_has_the_agreed_keys_and_its_parts_sum_up(planner: Terminal) -> None:
    done = planner(*LLAMA, "--batch", 4)
    values = done.document
    assert (done.code, done.stderr) == (0, "")
    assert set(values) >= KEYS
    assert sum(values["breakdown"].values()) * 1e3 == pytest.approx(values["tpot_ms"])
    assert values["decode_tok_s"] == pytest.approx(4e3 / values["tpot_ms"])
    assert (values["engine"], values["quant"], values["fits"]) == ("llama.cpp", "q4_k_m", True)
    assert set(values["error_band"]) == {"median", "p90"}


def test_other_engines_default_to_bf16_and_a_large_model_does_not_fit(planner: Terminal) -> None:
    values = planner(
        "estimate", "--model", "llama-3.1-70b", "--device", "rtx-4090", "--engine", "vllm",
        "--format", "json",
    ).document  # fmt: skip
    assert (values["quant"], values["fits"], values["kv_capacity_tokens"]) == ("bf16", False, 0)
    shared = planner(*LLAMA, "--count", 2).document
    assert shared["capacity_gib"] == pytest.approx(2 * planner(*LLAMA).document["capacity_gib"])


def test_text_tells_the_same(planner: Terminal) -> None:
    done = planner(*LLAMA[:-2])
    assert done.code == 0
    for word in ("Prefill", "Decode", "TTFT", "TPOT", "tok/s", "reading weights", "median"):
        assert word in done.stdout


def test_wrong_names_are_answered_with_the_near_ones(planner: Terminal) -> None:
    done = planner("estimate", "--model", "llama-3.1-8", "--device", "rtx-4090")
    assert (done.code, done.stdout) == (2, "")
    assert "did you mean llama-3.1-8b?" in done.stderr
    done = planner("estimate", "--model", "llama-3.1-8b", "--device", "this-host")
    assert done.code == 2
    assert "planner probe" in done.stderr
    assert planner(*LLAMA, "--batch", 0).code == 2
    assert planner(*LLAMA, "--profiles", "nowhere").code == 2


def test_an_engine_that_does_not_know_the_device_names_those_that_do(
    planner: Terminal, profiles: Path
) -> None:
    done = planner(
        "estimate", "--model", "tiny", "--device", "odd", "--engine", "soft",
        "--profiles", profiles,
    )  # fmt: skip
    assert (done.code, done.stdout) == (2, "")
    assert "engine soft has no calibration for odd" in done.stderr
    assert "hint: engines calibrated for odd with bf16: planner-runtime" in done.stderr


def test_a_model_may_be_a_directory_and_the_format_an_environment_variable(
    planner: Terminal, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 100,
        "max_position_embeddings": 100,
    }
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANNER_FORMAT", "json")
    monkeypatch.setenv("PLANNER_PROFILES", str(profiles))
    for name in ("my-model", "./my-model", folder):
        done = planner("estimate", "--model", name, "--device", "chip", "--engine", "soft")
        assert (done.code, done.document["model"]) == (0, "my-model")
    assert "warning: 640 tokens are more than the 100" in done.stderr
