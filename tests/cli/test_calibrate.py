from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.world import Terminal

HEAD = "device,model,quant,prompt,output,batch,prefill_tok_s,decode_tok_s\n"
ROWS = """\
RTX 3090,Llama 3.1 8B,Q4_K_M,512,128,1,3900,120
RTX 3090,Llama 3.1 8B,Q4_K_M,4096,128,1,3400,112
RTX 4090,Llama 3.1 8B,Q4_K_M,512,128,1,9000,150
RTX 4090,Llama 3.2 1B,Q4_K_M,512,128,1,30000,500
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(HEAD + ROWS)
    return path


def test_a_table_becomes_an_engine_that_estimates_use(
    planner: Terminal, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "profiles"
    asked = ("calibrate", data, "--engine", "llama.cpp", "--out", out, "--as-of", "2026-03-01")
    done = planner(*asked, "--format", "json")
    assert done.code == 0, done.stderr
    values = done.document
    assert values["rows"] == 8
    assert {one["speed"] for one in values["errors"]} == {"prefill_tok_s", "decode_tok_s"}
    text = (out / "engines" / "llama.cpp.yaml").read_text()
    assert "sha256" in text
    assert 'as_of: "2026-03-01"' in text
    speed = (
        *("estimate", "--model", "llama-3.1-8b", "--device", "rtx-3090", "--prompt", 1),
        *("--profiles", out, "--format", "json"),
    )
    assert planner(*speed).document["decode_tok_s"] == pytest.approx(120, rel=0.1)
    assert planner(*asked).code == 0
    assert (out / "engines" / "llama.cpp.yaml").read_text() == text


def test_the_text_says_rows_errors_and_the_file(
    planner: Terminal, data: Path, tmp_path: Path
) -> None:
    done = planner("calibrate", data, "--engine", "llama.cpp", "--out", tmp_path / "p")
    assert "8 measurements on 2 devices" in done.stdout
    assert "nvidia_geforce" in done.stdout
    assert "engines/llama.cpp.yaml" in done.stdout.replace("\n", "")


def test_unknown_names_are_refused_and_nothing_is_written(
    planner: Terminal, data: Path, tmp_path: Path
) -> None:
    data.write_text(HEAD + ROWS + "RTX 3091,Llama 9,Q4_K_M,1,1,1,,5\n")
    asked = ("calibrate", data, "--engine", "llama.cpp", "--out", tmp_path / "p")
    done = planner(*asked)
    assert done.code == 3
    assert "mine.csv:6: there is no device 'RTX 3091'; did you mean rtx-3090?" in done.stderr
    assert not (tmp_path / "p").exists()
    assert planner(*asked, "--skip-unknown").code == 0


def test_a_table_without_a_row_of_the_engine(planner: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEAD)
    done = planner("calibrate", path, "--engine", "llama.cpp", "--out", tmp_path / "p")
    assert done.code == 2
    assert "has no row of llama.cpp" in done.stderr
    assert planner("calibrate", path, "--engine", "llama.cpp", "--as-of", "soon").code == 2


KERNELS = """\
op,tokens,prefill_chunk,kv_prefill,n_decode,kv_decode,time_us
dense:qkv_proj,1,,,,,467
dense:qkv_proj,64,,,,,532
dense:qkv_proj,512,,,,,1387
dense:act_fn,1,,,,,8
per_seq:lm_head,1,,,,,1097
attn_decode,,0,0,1,512,13
attn_decode,,0,0,1,4096,27
attn_decode,,0,0,64,512,170
attn_decode,,0,0,64,4096,1200
attn_prefill,,64,1024,0,0,42
attn_prefill,,512,0,0,0,41
attn_prefill,,512,4096,0,0,290
attn_mixed,,512,0,32,512,228
"""


def test_kernel_times_make_constants_for_one_device(planner: Terminal, tmp_path: Path) -> None:
    data, out = tmp_path / "ops.csv", tmp_path / "profiles"
    data.write_text(KERNELS)
    asked = ("calibrate", data, "--engine", "vllm", "--out", out)
    done = planner(*asked)
    assert done.code == 2
    assert "--device and --model" in done.stderr
    data.write_text("".join(f"{line}\n" for line in KERNELS.split() if "attn_decode" not in line))
    done = planner(*asked, "--device", "rtx-3090", "--model", "llama-3.1-8b")
    assert done.code == 2
    assert "3 measured steps cannot fix 4 constants" in done.stderr
    data.write_text(KERNELS)
    named = ("--device", "rtx-3090", "--model", "llama-3.1-8b")
    done = planner(*asked, *named, "--format", "json")
    assert done.code == 0, done.stderr
    assert [one["of"] for one in done.document["layer_errors"]] == [
        "fit",
        "batch sizes left out",
        "beside pieces of prompts",
    ]
    speed = ("estimate", "--model", "llama-3.1-8b", "--device", "rtx-3090", "--engine", "vllm")
    said = planner(*speed, "--profiles", out, "--format", "json").document
    assert said["tier"] == 2
    assert said["tpot_ms"] == pytest.approx(32 * 0.488 + 1.2, rel=0.03)


def test_names_are_refused_where_the_table_has_columns(planner: Terminal, data: Path) -> None:
    done = planner("calibrate", data, "--engine", "vllm", "--device", "rtx-3090")
    assert done.code == 2
