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
    step_ms = values["tpot_ms"] - values["breakdown"]["prompts"] * 1e3
    assert values["decode_tok_s"] == pytest.approx(4e3 / step_ms)
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


def test_what_is_said_of_drafts_without_any_is_no_use(planner: Terminal) -> None:
    done = planner(*LLAMA, "--acceptance", 0.7, "--draft-ms", 5)
    assert done.code == 2
    assert "--acceptance and --draft-ms without --draft-tokens" in done.stderr
    assert "add --draft-tokens" in done.stderr
    some = planner(*LLAMA, "--draft-tokens", 2).document
    assert some == planner(*LLAMA, "--draft-tokens", 2, "--acceptance", 0.7).document


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


@pytest.mark.parametrize(
    ("model", "device", "quant", "found"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "H100 SXM", None, ("vllm", "bf16")),
        ("Llama 3 8B", "GeForce RTX 4090 24GB", None, ("llama.cpp", "q4_k_m")),
        ("llama-3.1-8b", "rtx-4090", "fp8", ("vllm", "fp8")),
        ("llama-3.1-8b", "A100 PCIe 80GB", "Q4_K_M", ("llama.cpp", "q4_k_m")),
        ("gpt-oss-20b", "M4 Max", None, ("llama.cpp", "mxfp4-gguf")),
        ("openai/gpt-oss-120b", "B200", "fp4", ("vllm", "mxfp4")),
    ],
)
def test_names_as_people_write_them_and_the_engine_they_would_use(
    planner: Terminal, model: str, device: str, quant: str | None, found: tuple[str, str]
) -> None:
    named = ("--quant", quant) if quant else ()
    done = planner("estimate", "--model", model, "--device", device, *named, "--format", "json")
    assert done.code == 0, done.stderr
    assert (done.document["engine"], done.document["quant"]) == found


def test_a_size_of_memory_that_the_card_does_not_have_is_another_device(planner: Terminal) -> None:
    done = planner("estimate", "--model", "llama-3.1-8b", "--device", "RTX 4090 48GB")
    assert done.code == 2
    assert "there is no device 'RTX 4090 48GB'" in done.stderr


def test_memory_for_the_cache_is_a_size(planner: Terminal) -> None:
    assert planner(*LLAMA, "--kv-memory", "2 GiB").document["fits"]
    assert not planner(*LLAMA, "--kv-memory", "1 MiB").document["fits"]
    assert planner(*LLAMA, "--kv-memory", "much").code == 2
    assert "must not be negative" in planner(*LLAMA, "--kv-memory", "-3 GiB").stderr


def test_tokens_beyond_reason_are_a_wrong_command_line(planner: Terminal) -> None:
    assert planner(*LLAMA, "--prompt", "100000000000000").code == 2


def test_what_does_not_fit_is_said_first_with_what_would(planner: Terminal) -> None:
    large = ("estimate", "--model", "llama-3.1-8b", "--device", "t4")
    values = planner(*large, "--format", "json").document
    assert not values["fits"]
    ways = [(one["quant"], one["count"]) for one in values["would_fit"]]
    assert ways == [("w8a8-int8", 1), ("int4-g128", 1), ("bf16", 2)]
    for quant, count in ways:
        again = planner(*large, "--quant", quant, "--count", count, "--format", "json").document
        assert again["fits"]
        assert again["would_fit"] == []
    text = planner(*large).stdout
    assert "It does not fit: 16.57 GiB are needed of 14.40 GiB." in text
    assert text.index("What would: w8a8-int8") < text.index("Prefill")
    assert "does not fit" not in planner(*large, "--quant", "int4-g128").stdout
