"""What receipts and audits of 5 % take from decode throughput, in pairs that drift together.

Throughput of a shared host drifts by more than verification can cost within a run. So two fleets of
the same plan stand side by side, one that signs and is audited, one that does neither, and take
turns at blocks of the same sessions. Needs the folder of ``benchmarks/verification.py``:

    python benchmarks/verification.py --users 1 --runs 1 --folder F
    python benchmarks/verified_throughput.py F/1.yaml --blocks 30
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from planner.cli.oversight import oversight_of
from planner.core.problem import Problem
from planner.core.verification import Verification
from planner.files.manifest import Manifest, read_manifest
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.inspection import Inspection
from planner.run.losses import Care
from planner.run.oversight import Oversight
from planner.run.prompts import Prompt
from planner.run.settings import Settings
from planner.run.setup import longest_request, warm_up

_RESAMPLES = 2000

Pair = tuple[float, float]
"""Seconds of a block without and with receipts and audits."""


def main() -> int:
    """Prints the change of throughput over all pairs, and where 95 % of its resamples lie."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--sessions", type=int, default=8, help="in a block")
    parser.add_argument("--audit", type=float, default=5.0, help="share of sessions, in percent")
    options = parser.parse_args()
    planned = read_manifest(options.manifest)
    asked = Verification(audit_share=options.audit / 100)
    serving = planned.problem.serving.model_copy(update={"verification": asked})
    problem = planned.problem.model_copy(update={"serving": serving})
    checkpoint = options.manifest.parent / "checkpoint"
    bounds = options.manifest.with_name(f"{options.manifest.stem}-bounds.yaml")
    oversight = oversight_of(problem, planned, options.manifest, checkpoint, None, bounds)
    pairs, audits = _pairs(planned, problem, checkpoint, oversight, options)
    low, high = _interval(pairs)
    print(
        f"output throughput with receipts and audits of {options.audit:g} %: "
        f"{_change(pairs):+.2%} ({low:+.2%} to {high:+.2%}), "
        f"{len(pairs)} pairs of {options.sessions} sessions, {audits} audits"
    )
    return 0


def _pairs(
    planned: Manifest,
    problem: Problem,
    checkpoint: Path,
    oversight: Oversight | None,
    options: argparse.Namespace,
) -> tuple[list[Pair], int]:
    """What every pair of blocks took, and how many audits were made."""
    settings = Settings(checkpoint, longest_request(problem), threads=1)
    pairs, audits = [], 0
    with ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleets = [
            stack.enter_context(Fleet(problem.cluster, planned.plan, settings)) for _ in range(2)
        ]
        tokenizer = open_checkpoint(checkpoint).tokenizer()
        for fleet in fleets:
            warm_up(fleet, tokenizer)
        for number in range(options.blocks):
            took_s: dict[bool, float] = {}
            for signed in (False, True) if number % 2 else (True, False):
                fleet = fleets[signed]
                care = Care(problem, False, ())
                session = Session(fleet, tokenizer, care=care)
                inspection = None
                if signed and oversight is not None:
                    mine = replace(oversight, folder=log / str(number))
                    inspection = Inspection(fleet, mine, session)
                took_s[signed] = _block_s(session, problem, number, options.sessions)
                audits += inspection.finish().tally.sampled if inspection else 0
            pairs.append((took_s[False], took_s[True]))
    return pairs, audits


def _block_s(session: Session, problem: Problem, number: int, sessions: int) -> float:
    """Seconds that a block of sessions takes."""
    draws = random.Random(number)
    requests = problem.workload.sample(number)[:sessions]
    prompts = [
        Prompt(
            request.id,
            0.0,
            [draws.randrange(problem.model.vocab_size) for _ in range(request.prompt_tokens)],
            request.output_tokens,
        )
        for request in requests
    ]
    began_s = time.perf_counter()
    session.run(prompts, problem.workload.concurrency)
    return time.perf_counter() - began_s


def _change(pairs: Sequence[Pair]) -> float:
    """Change of throughput: the same tokens in another time."""
    return sum(plain_s for plain_s, _ in pairs) / sum(signed_s for _, signed_s in pairs) - 1


def _interval(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Where 95 % of the changes of resampled pairs lie."""
    draws = random.Random(0)
    found = sorted(_change(draws.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    return found[_RESAMPLES // 40], found[-_RESAMPLES // 40]


if __name__ == "__main__":
    sys.exit(main())
