from __future__ import annotations

import pytest
import torch
from torch import Tensor

from planner.run.linear import ROWS, Kernels, Linear, choose, quantise, race

PACKED = Kernels(packed=True)
NATIVE = Kernels(bf16=("native",) * len(ROWS))
WEIGHT_ONLY = Kernels(int8=("weight_only",) * len(ROWS))
EXACT = Kernels(int8=("exact",) * len(ROWS))


def case(rows: int, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 96, generator=generator)
    weight = torch.randn(80, 96, generator=generator) * 96**-0.5
    return x, weight, torch.randn(80, generator=generator) if bias else None


def error(quant: str, kernels: Kernels, rows: int, bias: bool) -> float:
    """Root mean square of a product's error relative to fp32."""
    x, weight, b = case(rows, bias)
    exact = torch.nn.functional.linear(x, weight, b)
    made = Linear(weight, b, quant, kernels)(x if quant == "fp32" else x.bfloat16())
    return float((made.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("quant", "kernels", "bound"),
    [
        ("fp32", Kernels(), 0.0),
        ("fp32", PACKED, 0.0),
        ("bf16", Kernels(), 0.005),
        ("bf16", NATIVE, 0.005),
        ("bf16", PACKED, 0.005),
        ("int8", Kernels(), 0.02),
        ("int8", WEIGHT_ONLY, 0.02),
        ("bf16", Kernels(bf16=("widened",) * len(ROWS)), 0.005),
        ("int8", EXACT, 0.02),
        ("int8", Kernels(int8=("widened",) * len(ROWS)), 0.02),
    ],
)
def test_every_kernel_makes_the_same_product(
    quant: str, kernels: Kernels, bound: float, rows: int, bias: bool
) -> None:
    assert error(quant, kernels, rows, bias) <= bound


def test_bytes_by_format() -> None:
    _, weight, _ = case(1)
    count = weight.numel()
    held = {
        quant: Linear(weight, None, quant, Kernels()).weight_bytes
        for quant in ("fp32", "bf16", "int8")
    }
    assert held["fp32"] == 4 * count
    assert held["bf16"] == 2 * count
    assert held["int8"] == count + 6 * weight.shape[0]
    assert Linear(weight, None, "bf16", PACKED).weight_bytes == 2 * count


def test_int8_uses_the_whole_range_of_each_row() -> None:
    weight = torch.tensor([[0.5, -1.0], [0.0, 0.0], [3e-3, 1e-3]])
    bytes_, scale = quantise(weight)
    assert bytes_.tolist() == [[64, -127], [0, 0], [127, 42]]
    assert torch.allclose(bytes_ * scale[:, None], weight, atol=float(scale.max()) / 2)


@pytest.mark.parametrize("kernels", [Kernels(), EXACT, WEIGHT_ONLY])
def test_an_int8_row_does_not_depend_on_its_batch(kernels: Kernels) -> None:
    x, weight, _ = case(5)
    x[3] *= 100
    linear = Linear(weight, None, "int8", kernels)
    together = linear(x.bfloat16())
    for row in range(5):
        assert torch.equal(together[row : row + 1], linear(x[row : row + 1].bfloat16()))


def test_outliers_do_not_saturate() -> None:
    _, weight, _ = case(1)
    x = torch.full((1, 96), 1e4)
    exact = x @ weight.t()
    made = Linear(weight, None, "int8", EXACT)(x.bfloat16()).float()
    assert torch.allclose(made, exact, rtol=0.02, atol=float(exact.abs().max()) * 0.02)


def test_the_first_kernel_wins_a_tie() -> None:
    times = {rows: {"a": 1.0, "b": 0.95} for rows in ROWS}
    times[4] = {"a": 1.0, "b": 0.8}
    assert choose(times) == ("a", "a", "b", "a", "a")


@pytest.mark.parametrize("quant", ["fp32", "bf16", "int8"])
@pytest.mark.slow
def test_a_race_names_kernels_that_exist(quant: str) -> None:
    kernels = race(quant, "cpu", 4)
    for rows in (1, 2, 5, 100):
        assert error(quant, kernels, rows, bias=True) <= 0.02


def test_other_devices_do_not_race() -> None:
    assert race("int8", "cuda", 4) == Kernels()
