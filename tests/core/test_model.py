import pytest
from pydantic import ValidationError

from tests.core.world import model


def test_parameters_of_a_dense_model_add_up_by_hand() -> None:
    spec = model()
    attention = 64 * (64 + 2 * 32) + 64 * 64
    layer = attention + 3 * 64 * 128 + 2 * 64
    assert spec.layers[0].params == layer
    assert spec.total_params == 4 * layer + 2 * 100 * 64 + 64


def test_tied_embeddings_are_counted_once() -> None:
    assert model().total_params - model(tie_word_embeddings=True).total_params == 100 * 64


def test_llama_3_8b_has_its_published_size() -> None:
    spec = model(
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        vocab_size=128256,
    )
    assert spec.total_params == 8_030_261_248
    assert sum(layer.kv_elements for layer in spec.layers) * 2 == 131_072


def test_layers_of_a_mixture_differ_from_its_dense_ones() -> None:
    spec = model(
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        first_k_dense_replace=1,
    )
    dense, mixture = spec.layers[0], spec.layers[1]
    assert (dense.experts, mixture.experts) == (0, 8)
    assert mixture.expert_params == 3 * 64 * 32
    assert mixture.active_params == mixture.params + 2 * 3 * 64 * 32
    assert mixture.distinct_experts(1) == pytest.approx(2)
    assert mixture.distinct_experts(1000) == pytest.approx(8)


def test_sliding_layers_keep_a_window() -> None:
    spec = model(
        sliding_window=16,
        layer_types=("sliding_attention", "full_attention") * 2,
    )
    assert [layer.kv_window for layer in spec.layers] == [16, None, 16, None]


def test_latent_attention_caches_the_latent_and_the_rotary_key() -> None:
    spec = model(
        q_lora_rank=16, kv_lora_rank=32, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8
    )
    assert spec.layers[0].kv_elements == 36
    assert spec.layers[0].kv_parts == 1
    assert spec.layers[0].flops_per_pair == 2 * 4 * (8 + 4 + 8)
    assert spec.layers[0].decode_flops_per_pair == 2 * 4 * (32 + 4 + 32)


def test_linear_layers_hold_a_state_and_no_cache() -> None:
    spec = model(
        layer_types=("linear_attention",) * 3 + ("full_attention",),
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    )
    assert (spec.layers[0].kv_elements, spec.layers[0].state_elements) == (0, 256)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValidationError, match="layer_types names 1 layers"):
        model(layer_types=("full_attention",))
    with pytest.raises(ValidationError, match="no multiple of num_key_value_heads"):
        model(num_key_value_heads=3)
    with pytest.raises(ValidationError, match="needs num_experts_per_tok"):
        model(num_experts=4)


def test_full_layers_may_have_wider_and_fewer_heads() -> None:
    spec = model(
        sliding_window=16,
        layer_types=("sliding_attention", "full_attention") * 2,
        global_head_dim=32,
        num_global_key_value_heads=1,
        attention_k_eq_v=True,
    )
    sliding, full = spec.layers[0], spec.layers[1]
    assert (sliding.kv_elements, full.kv_elements) == (2 * 2 * 16, 2 * 1 * 32)
    query = 4 * 32
    assert full.params - sliding.params == 64 * (2 * query + 32) - 64 * (2 * 64 + 64)


def test_an_encoder_is_held_by_the_first_stage_only() -> None:
    plain, seeing = model(), model(encoder_params=1000)
    assert seeing.embedding_params - plain.embedding_params == 1000
    assert (seeing.head_params, seeing.layers) == (plain.head_params, plain.layers)
