from __future__ import annotations

import subprocess

from planner.files.export import llama_cpp, vllm
from tests.files.world import manifest


def test_vllm_gets_the_layers_of_every_stage() -> None:
    one = manifest()
    stages = one.plan.pipelines[0].stages
    script = vllm(one).files["replica-0.sh"]
    layers = ",".join(str(len(stage.layers)) for stage in stages)
    assert f"VLLM_PP_LAYER_PARTITION={layers}\n" in script
    assert f"--pipeline-parallel-size {len(stages)} " in script


def test_llama_cpp_counts_the_output_head_as_a_layer_of_the_last_stage() -> None:
    one = manifest()
    script = llama_cpp(one).files["replica-0.sh"]
    shares = script.split("--tensor-split ")[1].split(" ")[0].split(",")
    assert sum(map(int, shares)) == one.problem.model.num_hidden_layers + 1


def test_scripts_are_shell() -> None:
    for made in (vllm(manifest()), llama_cpp(manifest())):
        for name, script in made.files.items():
            if not name.endswith(".sh"):
                continue
            subprocess.run(["sh", "-n"], input=script, text=True, check=True)
        assert made.warnings


def test_the_page_beside_the_scripts_names_them_and_what_they_leave_out() -> None:
    for made in (vllm(manifest()), llama_cpp(manifest())):
        page = made.files["README.md"]
        assert all(name in page for name in made.files if name != "README.md")
        assert all(warning in page for warning in made.warnings)


def test_llama_cpp_has_context_for_every_sequence() -> None:
    one = manifest()
    script = llama_cpp(one).files["replica-0.sh"]
    seats = one.plan.pipelines[0].max_num_seqs
    assert f"--ctx-size {seats * one.problem.tokens_per_request} " in script
