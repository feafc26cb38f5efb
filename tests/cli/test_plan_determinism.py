"""The same inputs and seed: the same manifest, byte for byte, whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def scenario(folder: Path) -> Path:
    """Twelve unlike machines in three regions, replicas worth while: beyond the exact search."""
    lines = ["schema_version: '1.0'", "name: many", "model: llama-3.1-8b", "engine: llama.cpp"]
    lines += ["quants: [q4_k_m, q8_0]", "coordinator: gateway", "nodes:"]
    lines += ["  - {id: gateway, region: r0}"]
    for index in range(12):
        lines.append(
            f"  - {{id: n{index:02}, device: rtx-3090, region: r{index % 3}, "
            f"memory: {2 + 0.2 * index:.1f} GiB, uplink: {20 + 7 * index} Mbit/s, "
            f"price: {0.1 + 0.01 * (5 * index % 12):.2f} USD/h}}"
        )
    lines += ["network: {default: internet-eu}", "objective: throughput", "workload:"]
    lines += ["  arrivals: {kind: closed, concurrency: 4}"]
    lines += ["  prompt: {kind: fixed, tokens: 128}", "  output: {kind: fixed, tokens: 32}"]
    lines += ["serving: {mixed_quants: true}"]
    path = folder / "many.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_manifests_do_not_depend_on_hash_seeds(tmp_path: Path) -> None:
    path, made = scenario(tmp_path), set()
    for hash_seed in ("0", "1", "2"):
        out = tmp_path / "manifest.yaml"
        command = [sys.executable, "-m", "planner", "plan", str(path), "--out", str(out)]
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        made.add(out.read_bytes())
    assert len(made) == 1
    assert b"Lagrangian" in made.pop()
