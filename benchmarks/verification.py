"""What receipts and audits cost a run: measured beside predicted, and the throughput they take.

Probes this host and plans the demo for one and for eight users. Each plan then runs in turn without
receipts, with receipts and audits of 5 % of the sessions, and with audits of every session, whose
time is compared with what the simulation says:

    python benchmarks/verification.py --runs 3

With ``--folder`` the probe, the plans, the model and the bounds of audits are kept there and used
again. A host that does other things besides measures those.
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
FEW, ALL = "5", "100"
REQUESTS = 48


def manifest(folder: Path, users: int) -> Path:
    """The demo's plan for some users, at a host that was probed."""
    profiles, path = folder / "profiles", folder / f"{users}.yaml"
    if not profiles.exists():
        planner("probe", "--workers", "3", "--out", str(profiles))
    if path.exists():
        return path
    seats = (f"nodes[{index}].memory=520 MiB" for index in range(3))
    changes = [
        f"workload.arrivals.concurrency={users}",
        f"serving.max_num_seqs={users}",
        f"workload.requests={REQUESTS}",
        *seats,
    ]
    sets = [part for change in changes for part in ("--set", change)]
    planner(
        "plan", "scenarios/demo.yaml", "--profiles", str(profiles), "--out", str(path), *sets
    )  # fmt: skip
    return path


def run(folder: Path, path: Path, audit: str | None) -> dict[str, Any]:
    """One run, with audits of so many percent of the sessions; None for no receipts either."""
    checkpoint = str(folder / "checkpoint")
    if audit is None:
        return planner("run", str(path), "--checkpoint", checkpoint)
    bounds = folder / f"{path.stem}-bounds.yaml"
    if not bounds.exists():
        planner(
            "verify", "calibrate", str(path), "--checkpoint", checkpoint,
            "--sessions", "16", "--out", str(bounds),
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as logs:
        return planner(
            "run", str(path), "--checkpoint", checkpoint, "--receipts", str(Path(logs) / "log"),
            "--audit", audit, "--thresholds", str(bounds),
        )  # fmt: skip


def main() -> int:
    """Prints the median and every run of each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--users", type=int, nargs="+", default=list(USERS))
    parser.add_argument("--audits", nargs="+", default=[FEW, ALL], help="shares, in percent")
    parser.add_argument("--folder", type=Path, help="keep there what runs share")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for users in options.users:
            path = manifest(folder, users)
            if not (folder / "checkpoint").exists():
                run(folder, path, None)
            ways, found = [None, *options.audits], []
            for _ in range(options.runs):
                found.append({audit: run(folder, path, audit) for audit in ways})
                ways.reverse()  # a host that drifts favours none of them
            _print(users, found)
    return 0


def _print(users: int, found: list[dict[str | None, dict[str, Any]]]) -> None:
    print(f"{users} users")
    for audit in found[0]:
        if audit is None:
            continue
        reports = [runs[audit]["verification"] for runs in found]
        sampled = sum(one["sampled"] for one in reports)
        accepted = sum(one["accepted"] for one in reports)
        print(f"  audits of {audit} %: {sampled} made, {accepted} accepted")
        kept = [_rate(runs[audit]) / _rate(runs[None]) - 1 for runs in found]
        _row("output throughput", kept)
        _row("time of audits over that of the stages", [one["audit_overhead"] for one in reports])
        _row("predicted in the mean", [one["predicted_audit_overhead"] for one in reports])
        _row("hashing and signing", [one["receipts_overhead"] for one in reports])
        made = [one for one in reports if one["sampled"]]
        off = [one["predicted_drawn_overhead"] / one["audit_overhead"] - 1 for one in made]
        if off:
            _row("error of what is predicted of those made", off)


def _rate(one: dict[str, Any]) -> float:
    return float(one["measured"]["output_throughput"])


def _row(name: str, values: list[float]) -> None:
    every = " ".join(f"{value:+.1%}" for value in values)
    print(f"    {name}: {statistics.median(values):+.1%} ({every})")


if __name__ == "__main__":
    sys.exit(main())
