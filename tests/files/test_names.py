from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from planner.core.errors import InvalidFileError
from planner.files.bundled import bundled
from planner.files.catalogue import CARDS, Catalogue, Kind
from planner.files.names import ALIASES, aliases, published_in, resolve, scheme_of

KNOWN = Catalogue(environ={})


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        ("devices", "rtx-4090", "rtx-4090"),
        ("devices", "NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("devices", "GeForce RTX 4090 24GB", "rtx-4090"),
        ("devices", "RTX 4090 48GB", None),
        ("devices", "M1 Max 32\u2011Core GPU 64GB", "apple-m1-max"),
        ("devices", "RTX 4000 Ada 20GB", "rtx-4000-ada"),
        ("devices", "h200_sxm", "h200-sxm-141gb"),
        ("devices", "4090", None),
        ("models", "Llama 3.1:70b", "llama-3.1-70b"),
        ("models", "Qwen/Qwen3-32B", "qwen3-32b"),
        ("models", "deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("models", "llama", None),
        ("models", "nvidia/Llama-3.3-70B-Instruct-FP8", "llama-3.3-70b"),
        ("models", "Qwen/Qwen3-235B-A22B-Thinking-2507", "qwen3-235b-a22b"),
        ("models", "GLM 4.5 Air UD-Q4_K_XL", "glm-4.5-air"),
        ("models", "Q4_K_M", None),
        ("devices", "GeForce RTX 3060 12 GB", "rtx-3060"),
        ("devices", "Apple M2 Max (30 GPU cores)", "apple-m2-max-30core"),
        ("devices", "Apple M4 Max (14 GPU cores)", None),
        ("quants", "Q4_K_M", "q4_k_m"),
        ("quants", "F16", "fp16"),
        ("engines", "TensorRT-LLM", "tensorrt-llm"),
        ("engines", "trtllm", "tensorrt-llm"),
        ("engines", "trtllm 1.2.0rc6.post2", "tensorrt-llm"),
        ("engines", "sglang 0.5.10.post1", "sglang-0.5.10"),
        ("engines", "sglang 0.5.1", "sglang"),
        ("engines", "llama.cpp CUDA fa=1 2025-09", "llama.cpp"),
        ("engines", "llama.cpp Metal 2024-05", "llama.cpp-2024"),
        ("engines", "llama.cpp Vulkan RADV (no FA) 2026", "llama.cpp-vulkan"),
        ("engines", "llama.cpp-vulcan", None),
        ("engines", "2026", None),
    ],
)
def test_names_mean_a_card_or_none(kind: Kind, name: str, found: str | None) -> None:
    assert resolve(KNOWN, kind, name) == found


def test_a_models_name_tells_the_scheme_of_its_files() -> None:
    assert published_in(KNOWN, "nvidia/DeepSeek-R1-NVFP4") == "nvfp4"
    assert published_in(KNOWN, "Qwen 3 30B-A3B UD-Q4_K_XL") == "ud_q4_k_xl"
    assert published_in(KNOWN, "Qwen/Qwen3-32B") is None
    assert published_in(KNOWN, "qwen3-32b") is None


def test_models_published_in_four_bits_stay_in_them() -> None:
    assert scheme_of(KNOWN, "fp4", "gpt-oss-120b", "vllm") == "mxfp4"
    assert scheme_of(KNOWN, "MXFP4", "gpt-oss-20b", "llama.cpp CUDA") == "mxfp4-gguf"
    assert scheme_of(KNOWN, "fp4", "deepseek-r1", "trtllm") == "nvfp4"


def test_every_alias_means_a_card_that_exists() -> None:
    for kind, table in aliases(bundled("profiles") / ALIASES).items():
        offers = kind in ("apis", "rents")
        kind = {"apis": "models", "rents": "devices"}.get(kind, kind)
        assert kind in CARDS
        for name, one in table.items():
            assert KNOWN.find(kind, one), name
            assert offers or resolve(KNOWN, kind, name) == one


def test_no_two_cards_have_the_same_name() -> None:
    for kind in ("devices", "models", "quants", "engines"):
        for name in KNOWN.names(kind):
            assert resolve(KNOWN, kind, name.upper().replace("-", " ")) == name


def test_a_users_own_aliases_win(tmp_path: Path) -> None:
    (tmp_path / ALIASES).write_text(yaml.safe_dump({"devices": {"my box": "rtx-3090"}}))
    assert resolve(Catalogue(extra_dirs=[tmp_path], environ={}), "devices", "My Box") == "rtx-3090"


def test_aliases_are_names_of_cards(tmp_path: Path) -> None:
    (tmp_path / ALIASES).write_text("devices:\n  my box: 4\nmodels: 3\n")
    with pytest.raises(InvalidFileError) as caught:
        aliases(tmp_path / ALIASES)
    assert [problem.line for problem in caught.value.problems] == [2, 3]
