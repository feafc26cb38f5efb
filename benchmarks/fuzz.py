"""Mutated frames, headers, messages, inventories, manifests, warrants and tensor headers.

python -m benchmarks.fuzz [--examples 100000] [--seed 1]

Stops with a traceback at the first case that raises what its reader does not declare or takes more
than 100 ms of processor time; the same seed repeats it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.files.world import SCENARIO, write_cards, write_scenario
from tests.fuzzing import hammer, targets


def manifest(folder: Path) -> str:
    """A small manifest that is good."""
    cards, scenario = write_cards(folder / "profiles"), write_scenario(folder, SCENARIO)
    out = folder / "good.yaml"
    words = ["plan", str(scenario), "--profiles", str(cards), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "planner", *words], check=True, capture_output=True)
    return out.read_text()


def main() -> None:
    """Hammers every reader in turn and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| reader | cases | refused | worst case | memory grown |")
    print("|---|---|---|---|---|")
    total = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = targets(folder, manifest(folder))
        shares = sum(target.share for target in found)
        for target in found:
            outcome = hammer(target, int(options.examples * target.share / shares), options.seed)
            total += outcome.examples
            refused = outcome.refused / outcome.examples
            print(
                f"| {target.name} | {outcome.examples:,} | {refused:.0%} "
                f"| {outcome.worst_s * 1e3:.1f} ms | {outcome.grown_bytes / 2**20:.1f} MiB |",
                flush=True,
            )
    print(f"\n{total:,} cases, seed {options.seed}: nothing but refusals")


if __name__ == "__main__":
    main()
