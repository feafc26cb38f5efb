"""``planner run`` from the outside, with real workers."""

from __future__ import annotations

import datetime
import http.client
import importlib.util
import json
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from planner.core.workload import Closed
from tests.cli.scene import Scene

RUN = "run:\n  seeded: {seed: 3, dtype: fp32}\n"
SMALL = """\
family: tiny
model_type: llama
hidden_size: 64
num_hidden_layers: 2
num_attention_heads: 4
num_key_value_heads: 2
intermediate_size: 128
vocab_size: 300
max_position_embeddings: 1024
source: made up
as_of: 2026-01-01
"""
QUANT = "name: FP32\nweight_bits: 32\nlossless: true\nsource: made up\nas_of: 2026-01-01\n"


def two_stages(scene: Scene, run: str = RUN, probed: str = "", home: str = "600 kB") -> Path:
    """A manifest whose model needs both nodes; ``probed`` stands on the cards of devices."""
    path = scene.scenario(run)
    text = path.read_text().replace("[bf16]", "[fp32]")
    text = text.replace("tokens: 100}", "tokens: 9}").replace("tokens: 10}", "tokens: 6}")
    path.write_text(text)
    cards = scene.folder / "profiles"
    (cards / "quants" / "fp32.yaml").write_text(QUANT)
    model = cards / "models" / "tiny.yaml"
    model.write_text(model.read_text().replace("vocab_size: 100", "vocab_size: 300"))
    for device in (cards / "devices").glob("*.yaml"):
        device.write_text(device.read_text() + probed)
    engine = cards / "engines" / "soft.yaml"
    engine.write_text(engine.read_text().replace("{bf16: {b", '{"*": {b'))
    out = scene.folder / "manifest.yaml"
    sets = ["workload.requests=4", f"nodes.a.memory={home}", "nodes.b.memory=600 kB"]
    said = scene.planner("plan", path, "--out", out, *(f"--set={one}" for one in sets))
    assert said.code == 0, said.stderr
    return out


@pytest.mark.alone
@pytest.mark.slow
def test_runs_what_was_planned_and_says_how_far_off_the_prediction_was(scene: Scene) -> None:
    path = two_stages(scene)
    said = scene.planner("run", path, "--format", "json")
    assert said.code == 0, said.stderr
    assert "measured on local workers of this host" in said.stderr
    document = said.document
    assert document["sessions"] == {"started": 4, "completed": 4, "lost": 0}
    assert document["measured"]["completed"] == 4
    predicted, measured = (document[key]["mean_tpot_ms"] for key in ("predicted", "measured"))
    assert document["error"]["mean_tpot_ms"] == pytest.approx((predicted - measured) / measured)
    assert document["analytic"]["mean_tpot_ms"] > 0
    assert {(row["node"], row["phase"]) for row in document["stages"]} == {
        (node, phase) for node in ("a", "b") for phase in ("prefill", "decode")
    }
    assert all(row["measured_ms"] > 0 for row in document["stages"] + document["hops"])
    assert document["recoveries"] == []
    assert [(one["node"], one["stop"]) for one in document["starts"]] == [("a", 2), ("b", 4)]
    assert all(one["load_s"] > 0 for one in document["starts"])
    assert document["verification"]["accused"] == []
    made = list((scene.folder / "cache" / "planner" / "checkpoints").iterdir())
    assert [folder.name for folder in made] == ["tiny-3-fp32"]


@pytest.mark.alone
@pytest.mark.slow
def test_hosts_are_read_first_and_what_the_run_took_corrects_the_profile(scene: Scene) -> None:
    path, corrected = two_stages(scene, probed="call: 2 us\n"), scene.folder / "corrected"
    said = scene.planner("run", path, "--calibrate", corrected, "--format", "json")
    assert said.code == 0, said.stderr
    document = said.document
    (host,) = document["hosts"]
    assert host["nodes"] == ["a", "b"]
    assert host["call_s"]["probed"] == 2e-6
    assert host["call_s"]["found"] > 0
    assert host["memory_bytes_per_s"]["found"] > 0
    made = [(step["node"], step["phase"]) for step in document["rehearsed"]]
    assert made == [("a", "prefill"), ("a", "decode"), ("b", "prefill"), ("b", "decode")]
    for step in document["rehearsed"]:
        low, high = sorted((step["probed_s"], step["found_s"]))
        assert 0 < low <= step["expected_s"] <= high
        assert 0 < step["weight"] <= 1
    (steady,) = document["steadiness"]
    assert steady["nodes"] == ["a", "b"]
    assert 2.5 <= steady["span_s"] < 30
    assert 0 < steady["unavoidable_error"] < steady["wander"]
    assert steady["drift"] is not None
    assert document["hindsight_error"].keys() == document["error"].keys()
    assert document["planned"]["mean_tpot_ms"] != document["predicted"]["mean_tpot_ms"]
    assert Path(document["calibration"]["file"]).parent.parent == corrected
    for row in document["calibration"]["corrections"]:
        assert abs(row["after"]) <= abs(row["before"])
    text = scene.planner("run", path, "--no-gauge").stdout
    assert "when the run began" not in text
    assert "wandered" not in text
    assert "as probed" not in text


@pytest.mark.slow
def test_a_draft_model_is_measured_and_planned_with_the_next_time(scene: Scene) -> None:
    """The draft has the first two of the model's four layers: a seed gives the same ones."""
    draft = "  draft: {seeded: {seed: 3, dtype: fp32}}\n"
    more = "draft: half\nserving:\n  speculation: {draft_tokens: 2, acceptance: 0.5}\n"
    half = (scene.folder / "profiles").joinpath("models", "half.yaml")
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_text(SMALL)
    path, found = two_stages(scene, RUN + draft + more, home="900 kB"), scene.folder / "found"
    said = scene.planner("run", path, "--calibrate", found, "--format", "json")
    assert said.code == 0, said.stderr
    document = said.document
    assert {(row["node"], row["phase"]) for row in document["draft"]} == {
        ("draft half", "decode"),
        ("draft half", "prefill"),
    }
    assert all(row["predicted_ms"] > 0 for row in document["draft"])
    speculation = document["speculation"]
    assert (speculation["draft"], speculation["predicted_acceptance"]) == ("half", 0.5)
    drafting = document["calibration"]["drafting"]
    assert drafting["acceptance"] == speculation["acceptance"]
    assert drafting["acceptance"] > 0
    scenario = scene.folder / "tiny.yaml"
    scenario.write_text(scenario.read_text().replace(", acceptance: 0.5", ""))
    planned = scene.terminal(
        "plan", scenario, "--profiles", found, "--profiles", scene.folder / "profiles"
    )
    assert planned.code == 0, planned.stderr
    text = scene.planner("run", path, "--draft", scene.folder / "made").stdout
    assert "Drafts by half: " in text
    assert (scene.folder / "made" / "model.safetensors").exists()


@pytest.mark.slow
def test_prompts_are_answered_and_a_large_error_fails(scene: Scene) -> None:
    path, prompts = two_stages(scene), scene.folder / "prompts.txt"
    prompts.write_text("Good day\n\nWho?\n")
    checkpoint = scene.folder / "made"
    said = scene.planner(
        "run", path, "--checkpoint", checkpoint, "--prompts", prompts, "--max-error", 0
    )
    assert said.code == 6
    assert "was off by" in said.stderr
    assert "> Good day" in said.stdout
    assert "> Who?" in said.stdout
    assert "2 of 2 requests completed, 0 lost" in said.stdout
    assert "Furthest off: " in said.stdout
    assert (checkpoint / "model.safetensors").exists()


@pytest.mark.slow
def test_receipts_of_a_run_stand_before_a_stranger(scene: Scene) -> None:
    path, log = two_stages(scene), scene.folder / "log"
    said = scene.planner(
        "run", path, "--receipts", log, "--audit", 100, "--requests", 2, "--format", "json"
    )
    assert said.code == 0, said.stderr
    found = said.document["verification"]
    assert (found["enabled"], found["sampled"], found["accepted"]) == (True, 4, 4)
    assert (found["accused"], found["unverified_sessions"]) == ([], [])
    assert found["audit_overhead"] > 0
    assert found["predicted_audit_overhead"] > 0
    assert found["predicted_drawn_overhead"] == pytest.approx(found["predicted_audit_overhead"])
    assert scene.terminal("verify", "log", log, "--manifest", path).code == 0
    assert scene.planner("run", path, "--receipts", log).code == 3
    name = next(log.iterdir())
    name.write_bytes(name.read_bytes().replace(b'"count":', b'"count": ', 1))
    assert scene.terminal("verify", "log", log).code == 6


def test_refuses_a_manifest_of_another_scenario(scene: Scene) -> None:
    path = two_stages(scene)
    other = scene.scenario("objective: throughput\n", "other.yaml")
    assert scene.planner("run", path, "--scenario", other).code == 5


def test_says_what_is_missing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    path = two_stages(scene, run="")
    said = scene.planner("run", path)
    assert said.code == 2
    assert "--checkpoint DIR" in said.stderr
    said = scene.planner("run", path, "--prompts", scene.folder / "none.txt")
    assert said.code == 3
    (scene.folder / "empty.txt").write_text("\n")
    said = scene.planner("run", path, "--prompts", scene.folder / "empty.txt")
    assert said.code == 3
    find = importlib.util.find_spec

    def without_torch(name: str, *rest: Any) -> Any:
        return None if name == "torch" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_torch)
    said = scene.planner("run", path)
    assert said.code == 7
    assert "pip install 'planner[run]'" in said.stderr


@pytest.mark.parametrize(
    "given",
    [
        ("--lose", "b@1s"),
        ("--hang", "b@1s"),
        ("--html", "page.html"),
        ("--max-error", "5"),
        ("--chrome-trace", "trace.json"),
        ("--calibrate", "profiles"),
        ("--requests", "3"),
        ("--no-gauge",),
    ],
)
def test_what_an_endpoint_would_ignore_is_refused(given: tuple[str, ...], scene: Scene) -> None:
    said = scene.planner("run", two_stages(scene), "--serve", "127.0.0.1:0", *given)
    assert said.code == 2
    assert f"{given[0]}: nothing is replayed with --serve" in said.stderr


@pytest.mark.parametrize("given", [("--queue", "3"), ("--tls-cert", "x.pem")])
def test_an_option_of_an_endpoint_without_one_is_refused(
    given: tuple[str, ...], scene: Scene
) -> None:
    said = scene.planner("run", two_stages(scene), *given)
    assert said.code == 2
    assert "add --serve HOST:PORT" in said.stderr


def test_the_workload_is_that_of_the_manifest_unless_told(scene: Scene) -> None:
    from planner.cli.run import _job
    from planner.files.manifest import read_manifest

    manifest = read_manifest(two_stages(scene))
    job = _job(manifest, None, None, None, None)
    assert job.requests == manifest.problem.workload.sample(manifest.seed)
    job = _job(manifest, 3, 8, ["one", "two"], 5)
    assert job.texts == ["one", "two", "one"]
    assert job.problem.workload.arrivals == Closed(kind="closed", concurrency=3)
    assert (len(job.requests), job.seed) == (3, 5)


def https_pair(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself, and its key."""
    secret, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, key


@pytest.mark.slow
def test_an_endpoint_that_is_stopped_leaves_nothing_but_its_receipts(scene: Scene) -> None:
    path, log = two_stages(scene), scene.folder / "log"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    words = [sys.executable, "-m", "planner", "run", str(path), "--serve", f"127.0.0.1:{port}"]
    words += ["--receipts", str(log), "--audit", "100", "--deterministic"]
    chain, key = https_pair(scene.folder)
    words += ["--tls-cert", str(chain), "--tls-key", str(key)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said == f"serving tiny at https://127.0.0.1:{port}/v1\n"
        body = json.dumps({"prompt": "x", "max_tokens": 3, "ignore_eos": True}).encode()
        trusted = ssl.create_default_context(cafile=str(chain))
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=trusted)
        connection.request("POST", "/v1/completions", body)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert answer["usage"]["completion_tokens"] == 3
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert "Traceback" not in rest
        assert "2 audits, 2 accepted, 0 rejected" in rest
        assert process.wait(20) == 130
    assert scene.terminal("verify", "log", log, "--manifest", path).code == 0
    with socket.create_server(("127.0.0.1", port)):
        pass
