"""What receipts and audits cost a run: measured beside predicted, and the throughput they take.

Probes this host and plans the demo for one and for eight users. Each plan then runs in turn without
receipts, with receipts and audits of 5 % of the sessions, and with audits of more sessions, so
that there are enough to compare their time with what the simulation says:

    python benchmarks/verification.py --runs 3

A host that does other things besides measures those.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from demo_accuracy import planner

USERS = (1, 8)
AUDITS = {"none": None, "5 %": "5", "25 %": "25"}


def manifest(folder: Path, users: int) -> Path:
    """The demo's plan for some users, at a host that was probed."""
    profiles, path = folder / "profiles", folder / f"{users}.yaml"
    if not profiles.exists():
        planner("probe", "--workers", "3", "--out", str(profiles))
    seats = (f"nodes[{index}].memory=520 MiB" for index in range(3))
    changes = [
        f"workload.arrivals.concurrency={users}",
        f"serving.max_num_seqs={users}",
        f"workload.requests={16 * users if users == 1 else 4 * users}",
        *seats,
    ]
    sets = [part for change in changes for part in ("--set", change)]
    planner(
        "plan", "scenarios/demo.yaml", "--profiles", str(profiles), "--out", str(path), *sets
    )  # fmt: skip
    return path


def run(folder: Path, path: Path, audit: str | None, number: int) -> dict[str, Any]:
    """One run; its log goes into a folder of its own."""
    how = []
    if audit is not None:
        log = folder / f"{path.stem}-{audit}-{number}"
        bounds = folder / f"{path.stem}-bounds.yaml"
        if not bounds.exists():
            planner(
                "verify", "calibrate", str(path), "--checkpoint", str(folder / "checkpoint"),
                "--sessions", "16", "--out", str(bounds),
            )  # fmt: skip
        how = ["--receipts", str(log), "--audit", audit, "--thresholds", str(bounds)]
    return planner("run", str(path), "--checkpoint", str(folder / "checkpoint"), *how)


def main() -> int:
    """Prints the median and every run of each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--users", type=int, nargs="+", default=list(USERS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for users in options.users:
            path = manifest(folder, users)
            run(folder, path, None, -1)  # makes the checkpoint and warms the host
            found = [
                {label: run(folder, path, audit, number) for label, audit in AUDITS.items()}
                for number in range(options.runs)
            ]
            _print(users, found)
    return 0


def _print(users: int, found: list[dict[str, dict[str, Any]]]) -> None:
    def rate(one: dict[str, Any]) -> float:
        return float(one["measured"]["output_throughput"])

    kept = [rate(runs["5 %"]) / rate(runs["none"]) - 1 for runs in found]
    print(f"{users} users")
    _row("output throughput with receipts and 5 % audits", kept)
    for label in ("5 %", "25 %"):
        reports = [runs[label]["verification"] for runs in found]
        sampled = sum(one["sampled"] for one in reports)
        accepted = sum(one["accepted"] for one in reports)
        print(f"  audits of {label}: {sampled} made, {accepted} accepted")
        _row(f"  hashing and signing, {label}", [one["receipts_overhead"] for one in reports])
    each = []
    for runs in found:
        one = runs["25 %"]["verification"]
        sessions = runs["25 %"]["sessions"]["completed"] * 3
        per_session = one["audit_overhead"] * sessions / max(1, one["sampled"])
        predicted = one["predicted_audit_overhead"] / 0.25
        each.append(predicted / per_session - 1 if per_session else float("nan"))
        print(f"  an audit of every session: {per_session:.1%} measured, {predicted:.1%} predicted")
    _row("  error of predicted audit time", each)


def _row(name: str, values: list[float]) -> None:
    every = " ".join(f"{value:+.1%}" for value in values)
    print(f"  {name}: {statistics.median(values):+.1%} ({every})")


if __name__ == "__main__":
    sys.exit(main())
