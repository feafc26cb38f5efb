import pytest

from tests.core.world import quant


def test_all_weights_of_a_dense_layer_are_equally_wide() -> None:
    scheme = quant(weight_bits=4, beside_experts_bits=16)
    assert scheme.layer_bytes(1000) == 500


def test_beside_experts_weights_may_stay_wide() -> None:
    scheme = quant(weight_bits=4, beside_experts_bits=16)
    assert scheme.layer_bytes(1000, 2000) == 1000 * 2 + 2000 / 2
    assert quant(weight_bits=4).layer_bytes(1000, 2000) == 1500


def test_quality_is_the_worst_published_of_the_family_and_else_unknown() -> None:
    effects = [
        {"family": "a", "metric": "perplexity_ratio", "value": 1.25, "source": "s"},
        {"family": "a", "metric": "task_recovery", "value": 0.9, "source": "s"},
        {"family": "b", "metric": "task_recovery", "value": 1.05, "source": "s"},
    ]
    scheme = quant(lossless=False, quality=effects)
    assert scheme.quality_for("a") == pytest.approx(0.8)
    assert scheme.quality_for("b") == 1.0
    assert scheme.quality_for("c") is None
    assert quant(lossless=True).quality_for("c") == 1.0
