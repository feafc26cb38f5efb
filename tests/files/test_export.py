"""Exports of the bundled scenarios, read as the engines read them."""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.core.speculation import Speculation
from planner.files.export import ENGINES, Export
from planner.files.manifest import Bound, Manifest, ObjectiveValue
from planner.files.scenario import load_scenario
from planner.plan.solve import solve_simply
from tests.files.world import manifest
from tests.test_scenarios import SCENARIOS, probed

GRAMMARS = Path(__file__).parent / "grammars"
VALUES = {
    "MODEL": "org/model",
    "DRAFT": "org/draft",
    "DRAFT_DEVICE": "none",
    "ADDRESS": "10.0.0.2",
    "HEAD": "10.0.0.1",
    "PEER": "/ip4/10.0.0.1/tcp/31337/p2p/Qm",
    "RPC_SERVER": "ggml-rpc-server",
} | {f"HOST_{number}": f"10.0.0.{number}" for number in range(64)}
_TYPES = {"int": int, "float": float}


@functools.cache
def grammar(engine: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GRAMMARS / f"{engine}.json").read_text())
    return found


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda path: path.stem)
def planned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A bundled scenario with the plan that the quickest planner makes of it."""
    folder = tmp_path_factory.mktemp("profiles")
    problem = load_scenario(request.param, [probed(folder)]).problem
    loose = problem.requirements.model_copy(
        update={"must_have": type(problem.requirements.must_have)()}
    )
    problem = problem.model_copy(update={"requirements": loose})
    solution = solve_simply(problem, "greedy", explain=False)
    return Manifest(
        problem_digest=problem.digest,
        objective=ObjectiveValue(name="tpot", value=1.0, unit="ms", direction="min"),
        bound=Bound(),
        solver="greedy",
        plan=solution.plan,
        prediction=solution.prediction,
        problem=problem,
    )


def commands(made: Export) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Environment and words of what every script executes, as a shell would see them."""
    for name, text in made.files.items():
        if not name.endswith(".sh"):
            continue
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)
        exports = dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))
        command = text.split("exec ", 1)[1].replace("\\\n", " ")
        filled = re.sub(r"\$(\w+)", lambda found: VALUES[found[1]], command)
        yield exports, shlex.split(filled)


def parsed(words: list[str], options: dict[str, Any]) -> argparse.Namespace:
    """Words as an argument parser with these options takes them; unknown ones are errors."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for flag, option in options.items():
        if flag.startswith("<"):
            parser.add_argument(flag.strip("<>"), nargs=option["nargs"])
        elif option["nargs"] == 0:
            parser.add_argument(flag, action="store_true")
        else:
            nargs = None if option["nargs"] == 1 else option["nargs"]
            parser.add_argument(
                flag,
                nargs=nargs,
                type=_TYPES.get(option.get("type", ""), str),
                choices=option.get("choices"),
            )
    return parser.parse_args(words)


def test_vllm_takes_what_is_exported(planned: Manifest) -> None:
    served = 0
    for exports, words in commands(ENGINES["vllm"](planned)):
        if words[:2] != ["vllm", "serve"]:
            assert words[:2] == ["ray", "start"]
            continue
        pipeline = planned.plan.pipelines[served]
        served += 1
        given = parsed(words[3:], grammar("vllm")["options"])
        assert given.pipeline_parallel_size == len(pipeline.stages)
        if len(pipeline.stages) > 1:
            layers = [int(count) for count in exports["VLLM_PP_LAYER_PARTITION"].split(",")]
            assert layers == [len(stage.layers) for stage in pipeline.stages]
            assert sum(layers) == planned.problem.model.num_hidden_layers
    assert served == len(planned.plan.pipelines)


def test_llama_cpp_takes_what_is_exported(planned: Manifest) -> None:
    known, servers = grammar("llama.cpp"), 0
    for _, words in commands(ENGINES["llama.cpp"](planned)):
        if words[0] == "ggml-rpc-server":
            parsed(words[1:], known["rpc-server"])
            servers += 1
            continue
        given = parsed(words[1:], known["llama-server"])
        shares = [int(share) for share in given.tensor_split.split(",")]
        assert sum(shares) == planned.problem.model.num_hidden_layers + 1
        assert given.device.split(",") == [f"RPC{number}" for number in range(len(shares))]
    assert servers == len(planned.plan.nodes)


def test_petals_takes_what_is_exported(planned: Manifest) -> None:
    blocks = []
    for _, words in commands(ENGINES["petals"](planned)):
        assert words[:2] == ["python", "-m"]
        module = words[2].removeprefix("petals.cli.")
        given = parsed(words[3:], grammar("petals")[module])
        if module == "run_server":
            blocks.append(tuple(int(end) for end in given.block_indices.split(":")))
    stages = [stage for pipeline in planned.plan.pipelines for stage in pipeline.stages]
    assert blocks == [(stage.start, stage.stop) for stage in stages]


def test_parallax_takes_what_is_exported(planned: Manifest) -> None:
    layers = []
    for _, words in commands(ENGINES["parallax"](planned)):
        given = parsed(words[2:], grammar("parallax")["launch"])
        assert (given.start_layer == 0) == (given.initial_peers is None)
        layers.append((given.start_layer, given.end_layer))
    stages = [stage for pipeline in planned.plan.pipelines for stage in pipeline.stages]
    assert layers == [(stage.start, stage.stop) for stage in stages]


def test_skypilot_takes_what_is_exported(planned: Manifest) -> None:
    made = ENGINES["skypilot"](planned)
    tasks = {name: yaml.safe_load(text) for name, text in made.files.items() if name != "README.md"}
    for task in tasks.values():
        jsonschema.validate(task, grammar("skypilot")["task"])
        jsonschema.validate(task["resources"], grammar("skypilot")["resources"])
        assert re.fullmatch("[a-zA-Z]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?", task["name"])
        subprocess.run(["sh", "-n"], input=task["run"], text=True, check=True)
    nodes = [planned.problem.cluster.node(name) for name in planned.plan.nodes]
    rented = {node.id for node in nodes if node.usd_per_hour or node.trust != "own"}
    assert {name.removesuffix(".yaml") for name in tasks} == rented
    spot = {node.id for node in nodes if node.churn} & rented
    assert {n.removesuffix(".yaml") for n, t in tasks.items() if t["resources"]["use_spot"]} == spot


def test_kubernetes_takes_what_is_exported(planned: Manifest) -> None:
    made = ENGINES["kubernetes"](planned)
    objects = list(yaml.safe_load_all(made.files["nodes.yaml"]))
    for one in objects:
        jsonschema.validate(one, grammar("kubernetes")[one["kind"]])
        assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
    kinds = [one["kind"] for one in objects]
    assert kinds == ["Service", "StatefulSet"] * len(planned.plan.nodes)
    for service, nodes in zip(objects[::2], objects[1::2], strict=True):
        assert service["spec"]["selector"] == nodes["spec"]["template"]["metadata"]["labels"]
        secret = nodes["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"]
        assert f"kubectl create secret generic {secret} " in made.files["README.md"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_page_names_all_scripts_and_all_that_is_left_out(engine: str) -> None:
    made = ENGINES[engine](manifest())
    page = made.files["README.md"]
    assert all(name in page for name in made.files if name not in ("README.md", "Dockerfile"))
    assert made.warnings
    assert all(warning in page for warning in made.warnings)


def test_nothing_of_the_plan_is_dropped_silently() -> None:
    stages = (
        Stage(node="a", start=0, stop=2, quant="bf16"),
        Stage(node="b", start=2, stop=4, quant="bf16"),
    )
    plan = Plan(
        pipelines=(Pipeline(stages=stages, weight=2.0, micro_batches=2),),
        standbys=(Standby(node="c", pipeline=0, stage=1),),
    )
    for engine in ("vllm", "llama.cpp", "petals", "parallax"):
        told = " ".join(ENGINES[engine](manifest(plan=plan)).warnings)
        assert "standby c" in told
        assert "micro-batches" in told


def drafting(draft: bool, **how: Any) -> Manifest:
    """A plan that drafts three tokens, by looking up or with a model."""
    plain = manifest()
    speculation = Speculation(draft_tokens=3, acceptance=0.6, **how)
    serving = plain.problem.serving.model_copy(update={"speculation": speculation})
    changes = {"serving": serving, "draft": plain.problem.model if draft else None}
    return plain.model_copy(update={"problem": plain.problem.model_copy(update=changes)})


def test_the_draft_model_that_is_left_out_is_named() -> None:
    for draft, by in ((False, "by looking up"), (True, "with tiny")):
        for engine, make in ENGINES.items():
            told = " ".join(make(drafting(draft)).warnings)
            left_out = f"drafting 3 tokens at a time {by} is not expressed"
            assert (left_out in told) == (engine != "llama.cpp")


def served(made: Export) -> argparse.Namespace:
    """What llama-server is asked for."""
    (words,) = (words for _, words in commands(made) if words[0] == "llama-server")
    return parsed(words[1:], grammar("llama.cpp")["llama-server"])


def test_llama_cpp_drafts_as_the_plan_does() -> None:
    make = ENGINES["llama.cpp"]
    given = served(make(drafting(True)))
    assert (given.spec_type, given.spec_draft_model) == ("draft-simple", VALUES["DRAFT"])
    assert (given.spec_draft_n_max, given.spec_ngram_simple_size_m) == (3, None)
    assert given.spec_draft_device == "none"
    given = served(make(drafting(False)))
    assert (given.spec_type, given.spec_draft_model) == ("ngram-simple", None)
    assert (given.spec_ngram_simple_size_n, given.spec_ngram_simple_size_m) == (2, 3)
    assert served(make(manifest())).spec_type is None
    page = make(drafting(True)).files["README.md"]
    assert "DRAFT that of tiny" in page
    assert "MODEL=... DRAFT=... HOST_0=" in page
    several = " ".join(make(drafting(True, checks_in_flight=4)).warnings)
    assert "one check under way at a time, the plan 4" in several


def test_ray_takes_the_lines_that_join_it(planned: Manifest) -> None:
    ray = pytest.importorskip("ray.scripts.scripts", reason="ray is not installed")
    for _, words in commands(ENGINES["vllm"](planned)):
        if words[:2] == ["ray", "start"]:
            ray.start.make_context("start", words[2:])


def test_a_wrong_flag_would_be_noticed() -> None:
    with pytest.raises(SystemExit):
        parsed(["--no-such-flag", "1"], grammar("vllm")["options"])
