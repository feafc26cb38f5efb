"""Every bundled scenario under several hash seeds: whether its manifest is the same byte for byte.

    python benchmarks/determinism.py
    python benchmarks/determinism.py --only marketplace homes --seeds 0 1 2

Scenarios that name a host that was probed are left out. One scenario is
planned with no time at all as well: the manifest says what ended the search.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
NEEDS_PROBE = ("demo",)
LIMITED = "marketplace"


def manifest(scenario: Path, hash_seed: int, *options: str) -> bytes:
    """What ``planner plan`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "manifest.yaml"
        command = [sys.executable, "-m", "planner", "plan", str(scenario), "--out", str(out)]
        done = subprocess.run(
            [*command, *options],
            env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if done.returncode:
            raise SystemExit(f"{scenario.name} exited {done.returncode}:\n{done.stderr}")
        return out.read_bytes()


def main() -> None:
    """Prints a line for each scenario; exits 1 where two manifests differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="names of scenarios")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="hash seeds")
    given = parser.parse_args()
    same = True
    for path in sorted((ROOT / "scenarios").glob("*.yaml")):
        if path.stem in NEEDS_PROBE or (given.only and path.stem not in given.only):
            continue
        made = {manifest(path, seed) for seed in given.seeds}
        digest = hashlib.sha256(min(made)).hexdigest()[:12]
        print(
            f"{path.stem:24} {len(given.seeds)} seeds, {len(made)} manifest: {digest}", flush=True
        )
        same &= len(made) == 1
    if not given.only or LIMITED in given.only:
        path = ROOT / "scenarios" / f"{LIMITED}.yaml"
        said = yaml.safe_load(manifest(path, 0, "--time-limit", "0"))
        print(f"{LIMITED:24} with --time-limit 0: stopped by {said['stopped']}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
