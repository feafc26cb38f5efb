"""How long a comparison with everything that could serve takes, and what it finds.

python benchmarks/advice.py [SCENARIO...]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEFAULT = [ROOT / "scenarios" / f"{name}.yaml" for name in ("marketplace", "gpt-oss-four-4090")]


def main() -> None:
    """Runs ``planner simulate`` on each scenario and prints a row."""
    print("| scenario | alternatives | replications | flips | wall s | CPU s | first line |")
    print("|---|---|---|---|---|---|---|")
    for path in map(Path, sys.argv[1:] or DEFAULT):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "planner", "simulate", str(path), "--format", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
        wall_s = time.perf_counter() - began_s
        cpu_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        found = json.loads(done.stdout)
        told = found["verdict"]["text"][0]
        print(
            f"| {path.stem} | {len(found['targets']) - 1} | {found['replications']} "
            f"| {len(found['flips'])} | {wall_s:.1f} | {cpu_s:.1f} | {told} |"
        )


if __name__ == "__main__":
    main()
