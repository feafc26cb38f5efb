from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.core.cost.estimate import Load
from planner.core.engine import MeasuredAs
from planner.core.errors import InvalidFileError
from planner.files.catalogue import Catalogue
from planner.files.measurements import Measurements, read_measurements

KNOWN = Catalogue(environ={})
BENCH = (
    "device,n_devices,backend,model,quant,metric,n_prompt,n_gen,context,batch,value,date,quality"
)
SERVING = (
    "system,model,precision,backend,backend_version,isl,osl,tp,pp,attn_dp,moe_ep,batch,"
    "concurrency,ttft_ms,tpot_ms"
)


def read(path: Path, text: str, backend: str = "", **dates: Any) -> Measurements:
    path.write_text(text)
    return read_measurements(path, KNOWN, MeasuredAs(backend=backend, **dates))


def test_own_layout(tmp_path: Path) -> None:
    found = read(
        tmp_path / "mine.csv",
        "# my box\ndevice,model,quant,prompt,output,batch,prefill_tok_s,decode_tok_s\n"
        "rtx-3090,llama-3.1-8b,q4_k_m,512,128,2,3000,\n",
    )
    assert [(row.device.id, row.load, row.speed, row.value) for row in found.rows] == [
        ("rtx-3090", Load(512, 128, 2), "prefill_tok_s", 3000.0)
    ]
    assert found.rows[0].place.endswith("mine.csv:3")


def test_bench_rows_of_an_engine_and_a_time(tmp_path: Path) -> None:
    rows = [
        "RTX 3090 24GB,2,llama.cpp CUDA,Llama-3-8B,Q4_K_M,decode_tok_s,0,512,256,1,110,2024-05,ok",
        "RTX 3090,1,llama.cpp CUDA,Llama-3-8B,Q4_K_M,prefill_tok_s,512,0,4096,1,3000,2024-05,ok",
        "RTX 3090,1,llama.cpp CUDA,Llama-3-8B,Q4_K_M,prefill_tok_s,512,0,256,1,9,2024-05,anomalous",
        "RTX 3090,1,llama.cpp CUDA,Llama-3-8B,Q4_K_M,decode_tok_s,0,128,64,1,160,2026-01,ok",
        "RTX 3090,1,vLLM,Llama-3-8B,BF16,decode_tok_s,0,128,64,1,50,2024-05,ok",
        "RTX 3090,1,llama.cpp CUDA,Llama-3-8B,Q4_K_M,watts,0,128,64,1,300,2024-05,ok",
    ]
    found = read(
        tmp_path / "b.csv", "\n".join([BENCH, *rows]), backend="llama.cpp", until="2024-12"
    )
    assert [(row.count, row.load, row.value) for row in found.rows] == [
        (2, Load(1, 512, 1), 110.0),
        (1, Load(512, 1, 1, 4096), 3000.0),
    ]
    assert dict(found.left_out) == {
        "marked as doubtful": 1,
        "of another time": 1,
        "of another engine": 1,
        "metrics that planner does not predict": 1,
    }


def test_boxes_with_another_power_limit_than_the_datasheet(tmp_path: Path) -> None:
    row = "RTX 3090,{},llama.cpp,Llama-3-8B,Q4_K_M,prefill_tok_s,512,0,256,1,3000,2024-05,ok"
    found = read(
        tmp_path / "b.csv",
        "\n".join([BENCH, row.format(1), row.format(2)]),
        power_limits=[{"device": "rtx-3090", "count": 2, "limit": "230 W"}],
    )
    assert [(row.count, row.device.tdp_w) for row in found.rows] == [(1, 350.0), (2, 230.0)]


def test_serving_rows_that_the_model_has_terms_for(tmp_path: Path) -> None:
    good = "h100_sxm,openai/gpt-oss-120b,fp4,vllm,0.18.0,1024,1024,2,1,1,1,8,8,60,5.5"
    rows = [
        good,
        good.replace("gpt-oss-120b", "gpt-oss-120b"),
        good.replace(",2,1,1,1,8,8,", ",2,1,4,1,8,32,"),
        good.replace("0.18.0", "0.18.dev1"),
        good.replace(",60,", ",6000,"),
        good.replace(",5.5", ",0.01").replace(",60,", ",0.1,"),
        good.replace(",8,8,", ",4,4,").replace(",5.5", ",4.9"),
        good.replace(",8,8,", ",4,4,").replace(",5.5", ",2.5").replace("0.18.0", "0.18.1"),
    ]
    found = read(tmp_path / "s.csv", "\n".join([SERVING, *rows]), backend="vllm")
    assert [(row.speed, row.value, row.quant.id, row.count) for row in found.rows] == [
        ("ttft_ms", 60.0, "mxfp4", 2),
        ("tpot_ms", 5.5, "mxfp4", 2),
    ]
    assert dict(found.left_out) == {
        "said before": 1,
        "parallelism that planner does not model": 1,
        "version of the engine unknown": 1,
        "requests that waited for a seat": 1,
        "more FLOP/s than devices sustain": 1,
        "contradicted by another run": 2,
    }


def test_ttft_that_falls_as_users_double_is_left_out(tmp_path: Path) -> None:
    """Of the whole campaign, where most series do; the time per token stays."""
    runs = [(512, 8, 550), (512, 16, 308), (256, 8, 318), (256, 16, 195), (128, 8, 90)]
    lines = [
        f"h100_sxm,meta-llama/Llama-3.1-8B-Instruct,bf16,trtllm,1.0,1024,{osl},1,1,1,1,"
        f"{users},{users},{ttft},{7 + users / 8}"
        for osl, users, ttft in runs
    ]
    rising = [line.replace(",1.0,", ",1.2,") for line in lines[-1:]]
    found = read(tmp_path / "m.csv", "\n".join([SERVING, *lines, *rising]), backend="trtllm")
    assert found.left_out["TTFT that falls with more users"] == 5
    assert [row.speed for row in found.rows].count("tpot_ms") == 5
    new = read(tmp_path / "m.csv", "\n".join([SERVING, *lines]), "trtllm", versions=("2.",))
    assert (new.rows, dict(new.left_out)) == ([], {"of another engine": 5})


def test_every_name_that_means_no_card_is_said_with_its_line(tmp_path: Path) -> None:
    head = "device,model,quant,prompt,output,decode_tok_s\n"
    text = head + "rtx-3090,llama-9,q4_k_m,1,1,5\nrtx-3091,llama-3-8b,q4,1,1,5\n"
    with pytest.raises(InvalidFileError) as caught:
        read(tmp_path / "m.csv", text)
    said = [str(problem) for problem in caught.value.problems]
    assert [line.split(": ", 1)[0].rsplit(":", 1)[1] for line in said] == ["2", "3", "3"]
    assert "there is no device 'rtx-3091'; did you mean rtx-3090?" in said[1]
    (tmp_path / "m.csv").write_text(text)
    found = read_measurements(tmp_path / "m.csv", KNOWN, MeasuredAs(backend=""), True)
    assert (found.rows, dict(found.left_out)) == ([], {"names that mean no card": 2})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("rtx-3090,llama-3-8b,q4_k_m,x,1,5", "prompt: 'x' is no number"),
        ("rtx-3090,llama-3-8b,q4_k_m,1.5,1,5", "prompt: 1.5 is no whole number"),
        ("rtx-3090,llama-3-8b,q4_k_m,1,1,0", "decode_tok_s: 0 must be above 0"),
        ("rtx-3090,llama-3-8b,q4_k_m,1,1,nan", "decode_tok_s: nan must be above 0"),
    ],
)
def test_cells_that_are_no_figures(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read(tmp_path / "m.csv", f"device,model,quant,prompt,output,decode_tok_s\n{row}\n")
    assert str(caught.value.problems[0]).endswith(f":2: {message}")


def test_a_table_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="no known layout"):
        read(tmp_path / "m.csv", "a,b\n1,2\n")
