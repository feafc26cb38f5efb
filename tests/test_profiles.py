"""The bundled cards: every one loads, says where it is from, and agrees with arithmetic by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.cost import Batch, Chip, stage_time
from planner.core.device import Device
from planner.core.engine import Calibration, Engine
from planner.core.model import ModelSpec
from planner.core.prices import PriceList
from planner.core.quant import QuantScheme
from planner.files.catalogue import CARDS, Catalogue, Kind
from planner.files.validate import build
from planner.files.yamlfile import read_yaml

PROFILES = Path(__file__).parent.parent / "profiles"
CATALOGUE = Catalogue(environ={"XDG_CONFIG_HOME": str(PROFILES / "none")})
FILES = sorted(PROFILES.glob("*/*.yaml"))
LEAST = {"devices": 90, "models": 60, "quants": 18, "engines": 5, "networks": 15, "churn": 5}


def names(kind: Kind) -> list[str]:
    return sorted(path.stem for path in (PROFILES / kind).glob("*.yaml"))


def device(name: str) -> Device:
    card, _ = CATALOGUE.get("devices", name)
    assert isinstance(card, Device)
    return card


def model(name: str) -> ModelSpec:
    card, _ = CATALOGUE.get("models", name)
    assert isinstance(card, ModelSpec)
    return card


def quant(name: str) -> QuantScheme:
    card, _ = CATALOGUE.get("quants", name)
    assert isinstance(card, QuantScheme)
    return card


def engine(name: str) -> Engine:
    card, _ = CATALOGUE.get("engines", name)
    assert isinstance(card, Engine)
    return card


def prices(path: Path) -> PriceList:
    return build(PriceList, read_yaml(path), extra={"id": path.stem})


@pytest.mark.parametrize("kind", sorted(CARDS))
def test_every_card_loads_and_is_found_where_it_lies(kind: Kind) -> None:
    assert len(names(kind)) >= LEAST.get(kind, 0)
    for name in names(kind):
        card, path = CATALOGUE.get(kind, name)
        assert isinstance(card, CARDS[kind])
        assert path == PROFILES / kind / f"{name}.yaml"
        assert len(card.source) > 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_card_states_its_source_and_its_day_and_leaves_its_id_to_the_file(path: Path) -> None:
    written = read_yaml(path).value
    assert {"source", "as_of"} <= set(written)
    assert "id" not in written


def test_price_lists_name_devices_and_models_that_exist() -> None:
    lists = [prices(path) for path in sorted((PROFILES / "prices").glob("*.yaml"))]
    assert len(lists) >= 10
    assert {row.device for entry in lists for row in entry.devices} <= set(names("devices"))
    assert {row.model for entry in lists for row in entry.models} <= set(names("models"))


def test_no_rent_is_absurd() -> None:
    for path in sorted((PROFILES / "prices").glob("*.yaml")):
        for row in prices(path).devices:
            per_terabyte_s = row.usd_per_hour / (device(row.device).memory_bytes_per_s / 1e12)
            assert 0.05 < per_terabyte_s < 8, (path.stem, row)


def test_interruptible_rents_are_below_on_demand_ones() -> None:
    for path in sorted((PROFILES / "prices").glob("*.yaml")):
        rows = prices(path).devices
        for row in (row for row in rows if row.kind == "spot"):
            fixed = [r.usd_per_hour for r in rows if r.device == row.device and r.kind != "spot"]
            assert not fixed or row.usd_per_hour < min(fixed), (path.stem, row)


@pytest.mark.parametrize("name", names("models"))
def test_parameters_agree_with_the_total_on_the_card(name: str) -> None:
    spec = model(name)
    if spec.family != "seeded":
        assert spec.published_params is not None
        assert spec.total_params == pytest.approx(spec.published_params, rel=0.01)


def kv_bytes(spec: ModelSpec, tokens: int) -> float:
    """Bytes that ``tokens`` cached tokens and the states take at 16 bits."""
    cached = sum(
        layer.kv_elements * min(tokens, layer.kv_window or tokens) for layer in spec.layers
    )
    return 2 * (cached + sum(layer.state_elements for layer in spec.layers))


def test_kv_of_grouped_queries_by_hand() -> None:
    # 32 layers, keys and values, 8 heads of 128, 2 bytes
    assert kv_bytes(model("llama-3.1-8b"), 1) == 32 * 2 * 8 * 128 * 2 == 131_072


def test_kv_of_full_heads_by_hand() -> None:
    assert kv_bytes(model("llama-2-7b"), 1) == 32 * 2 * 32 * 128 * 2 == 524_288


def test_kv_of_latent_attention_by_hand() -> None:
    # 61 layers, a latent of 512 and a rotary key of 64, shared by all heads
    assert kv_bytes(model("deepseek-v3"), 1) == 61 * (512 + 64) * 2 == 70_272


def test_kv_of_alternating_windows_by_hand() -> None:
    # 18 layers keep all tokens, 18 keep 128; 8 heads of 64
    per_layer = 2 * 8 * 64 * 2
    spec = model("gpt-oss-120b")
    assert kv_bytes(spec, 1000) == 18 * per_layer * 1000 + 18 * per_layer * 128
    assert kv_bytes(spec, 100) == 36 * per_layer * 100


def test_kv_of_one_full_layer_in_six_by_hand() -> None:
    # 62 layers: every sixth is full, so 10 are; 16 heads of 128; windows of 1024
    per_layer = 2 * 16 * 128 * 2
    assert kv_bytes(model("gemma-3-27b"), 8192) == per_layer * (10 * 8192 + 52 * 1024)


def test_kv_of_full_layers_with_other_heads_by_hand() -> None:
    # 10 full layers with 4 heads of 512, 50 sliding ones with 16 heads of 256
    full, sliding = 2 * 4 * 512 * 2, 2 * 16 * 256 * 2
    assert kv_bytes(model("gemma-4-31b"), 8192) == 10 * full * 8192 + 50 * sliding * 1024


def test_kv_and_states_of_a_hybrid_by_hand() -> None:
    # 16 of 64 layers cache 4 heads of 256; 48 hold a state of 48 heads of 128 x 128
    cache, state = 16 * 2 * 4 * 256 * 2, 48 * 48 * 128 * 128 * 2
    assert kv_bytes(model("qwen3.5-27b"), 1000) == 1000 * cache + state


def test_active_parameters_of_mixtures_are_what_their_names_say() -> None:
    for name, active in (("qwen3-30b-a3b", 3.3e9), ("deepseek-v3", 37e9), ("kimi-k2", 32e9)):
        spec = model(name)
        reads = sum(layer.active_params for layer in spec.layers) + spec.head_params
        assert reads == pytest.approx(active, rel=0.1)


def test_only_formats_that_models_are_published_in_are_lossless() -> None:
    lossless = {name for name in names("quants") if quant(name).lossless}
    assert lossless == {"fp32", "bf16", "fp16"}


def test_unknown_quality_is_not_lossless() -> None:
    for name in names("quants"):
        assert quant(name).lossless or quant(name).quality_for("no such family") is None
    assert quant("mxfp4").quality_for("gpt-oss") == 1.0
    assert quant("q4_k_m").quality_for("llama-3") == pytest.approx(1 / 1.0482, rel=1e-4)


def test_quality_is_published_for_families_that_models_have() -> None:
    families = {model(name).family for name in names("models")}
    published = {effect.family for name in names("quants") for effect in quant(name).quality}
    assert published - families <= {"granite-3"}


@pytest.mark.parametrize(
    ("scheme", "gib"),
    [("q2_k", 2.95), ("q3_k_s", 3.41), ("q4_k_m", 4.58), ("q6_k", 6.14), ("q8_0", 7.95)],
)
def test_gguf_files_of_llama_3_1_8b_have_their_published_size(scheme: str, gib: float) -> None:
    spec, bits = model("llama-3.1-8b"), quant(scheme)
    ends = spec.embedding_params * bits.embedding_bits + spec.head_params * bits.head_bits
    layers = 8 * sum(bits.layer_bytes(layer.params) for layer in spec.layers)
    assert (layers + ends) / 8 / 2**30 == pytest.approx(gib, rel=0.01)


def test_gpt_oss_in_its_published_format_has_the_size_of_its_checkpoint() -> None:
    spec, bits = model("gpt-oss-120b"), quant("mxfp4")
    layers = sum(
        bits.layer_bytes(layer.params, layer.experts * layer.expert_params) for layer in spec.layers
    )
    ends = (spec.embedding_params + spec.head_params) * 2
    assert (layers + ends) / 2**30 == pytest.approx(60.8, rel=0.02)


@pytest.mark.parametrize("name", names("devices"))
def test_every_device_has_a_calibration_and_every_scheme_an_efficiency(name: str) -> None:
    calibration = engine("llama.cpp").calibration(device(name))
    for scheme in map(quant, names("quants")):
        calibration.for_quant(scheme.id, scheme.compute_dtype)


def test_serving_engines_know_data_centre_and_consumer_cards() -> None:
    for name in ("vllm", "sglang", "tensorrt-llm"):
        for chip in ("h100-sxm-80gb", "l40s", "rtx-4090", "rtx-pro-6000-blackwell"):
            engine(name).calibration(device(chip))
    assert engine("vllm").calibration(device("mi300x")).device_class == "amd_instinct"


def every_calibration() -> list[tuple[str, Calibration]]:
    return [(name, entry) for name in names("engines") for entry in engine(name).calibrations]


def test_calibrations_name_classes_and_generations_that_devices_have() -> None:
    cards = [device(name) for name in names("devices")]
    for name, entry in every_calibration():
        assert any(entry.match(card) for card in cards), (name, entry.device_class)


def test_error_bands_stand_only_on_measurements() -> None:
    for name, entry in every_calibration():
        if entry.error_band is not None:
            assert entry.tier > 0, name
            assert entry.error_band.median <= entry.error_band.p90


@pytest.mark.parametrize(
    ("chip", "name", "scheme", "tokens_per_s"),
    [
        ("rtx-5090", "llama-2-7b", "q4_0", 300.4),
        ("rtx-3090", "llama-2-7b", "q4_0", 158.2),
        ("dgx-spark-gb10", "gpt-oss-120b", "mxfp4-gguf", 57.1),
        ("apple-m2-ultra", "llama-2-7b", "q4_0", 94.3),
    ],
)
def test_decode_under_llama_cpp_agrees_with_figures_it_was_fitted_to(
    chip: str, name: str, scheme: str, tokens_per_s: float
) -> None:
    spec, card = model(name), device(chip)
    step = stage_time(
        spec,
        0,
        spec.num_hidden_layers,
        quant(scheme),
        Chip(card, engine("llama.cpp").calibration(card)),
        Batch.decode(1, 64),
    )
    assert 1 / step.total_s == pytest.approx(tokens_per_s, rel=0.2)


def test_traps_of_public_tables_are_not_in_the_cards() -> None:
    assert device("mi300x").memory_bytes_per_s == 5.3e12
    assert device("b300-sxm").memory_bytes_per_s == 7.75e12
    assert device("rtx-4090").peak_flop_per_s("fp16") == pytest.approx(165.2e12)
    assert device("h100-sxm-80gb").peak_flop_per_s("fp8") == pytest.approx(1978e12)
    assert device("rtx-4090").memory_bytes == 24 * 2**30
