from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.cost import Batch
from planner.core.errors import InvalidFileError
from planner.files.kernels import COLUMNS, is_kernel_table, read_kernels
from planner.fit.kernels import KernelTimes
from tests.core.world import device, model, quant

HEAD = ",".join(COLUMNS) + "\n"
ROWS = """\
dense:qkv_proj,1,,,,,10
dense:down_proj,1,,,,,20
dense:layernorm,1,,,,,2
dense:act_fn,1,,,,,3
dense:embedding,1,,,,,99
per_seq:lm_head,8,,,,,100
per_seq:sampler,8,,,,,5
attn_decode,,0,0,8,512,35.5
attn_mixed,,512,64,32,100,200
"""


def read(path: Path, text: str) -> KernelTimes:
    path.write_text(text)
    return read_kernels(path, device(), model(), quant())


def test_a_layer_its_attention_and_the_ends_of_a_step(tmp_path: Path) -> None:
    found = read(tmp_path / "ops.csv", f"# RTX\n{HEAD}{ROWS}")
    assert found.products == {1.0: pytest.approx(30e-6)}
    assert found.between == {1.0: pytest.approx(7e-6)}
    assert found.ends == {8.0: pytest.approx(105e-6)}
    assert found.attention == [
        ((Batch.decode(8, 4096),), pytest.approx(35.5e-6)),
        ((Batch.prefill(512, 64), Batch.decode(32, 3200)), pytest.approx(200e-6)),
    ]
    assert found.points == 4


def test_only_its_own_header_is_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    path.write_text(f"# a comment\n{HEAD}")
    assert is_kernel_table(path)
    path.write_text("device,model,quant\n")
    assert not is_kernel_table(path)
    assert not is_kernel_table(tmp_path / "none.csv")


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    rows = "attn_decode,,0,0,0,0,1\nmoe:gate,1,,,,,1\ndense:act_fn,x,,,,,1\nper_seq:a,1,,,,,-1\n"
    with pytest.raises(InvalidFileError) as caught:
        read(tmp_path / "ops.csv", HEAD + rows)
    assert [(one.line, one.message) for one in caught.value.problems] == [
        (2, "attention over neither a prompt nor decoding sequences"),
        (3, "op 'moe:gate' is none of dense:*, per_seq:*, attn_*"),
        (4, "tokens: 'x' is no number"),
        (5, "time_us: -1 must be above 0"),
        (None, "there is no dense:*_proj row"),
        (None, "there is no dense:* row"),
        (None, "there is no per_seq:* row"),
    ]
