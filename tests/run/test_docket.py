"""Receipts, audits and what follows from them, with real stages in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from planner.receipts.check import check_log
from planner.receipts.log import NAME, read_lines
from planner.receipts.record import Threshold
from planner.run.checkpoint import Checkpoint
from planner.run.model import CacheShape, Stage
from planner.run.separation import FORGED, downgraded, separate
from tests.run.parade import BF16, MANIFEST, Parade
from tests.run.world import checkpoint

PROMPT, OUTPUT = 12, 40
CACHE = CacheShape(8, PROMPT + OUTPUT)
ENDS = ((0, 2), (2, 4))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    shape = {"hidden_size": 128, "intermediate_size": 384, "vocab_size": 600}
    return checkpoint(tmp_path_factory.mktemp("weights"), dtype="bf16", **shape)


@pytest.fixture(scope="module")
def thresholds(opened: Checkpoint) -> list[Threshold]:
    found = separate(opened, ENDS, "bf16", sessions=12, prompt_tokens=PROMPT, output_tokens=OUTPUT)
    mine = [one for one in found if (one.pair.dtype, one.pair.kernel) == ("bf16", "sdpa")]
    return [
        Threshold(
            prover=BF16,
            verifier=BF16,
            accept=one.accept,
            reject=one.reject or 10.0,
            token_gap=one.token_gap or 0.0,
        )
        for one in mine
    ]


WIDE = [Threshold(prover=BF16, verifier=BF16, accept=0.05, reject=0.5, token_gap=1.0)] * 2
"""Bounds for tests that judge no cheat."""


def stages(of: Checkpoint) -> list[Stage]:
    return [Stage(of, start, stop, "bf16", CACHE) for start, stop in ENDS]


def prompt(number: int) -> list[int]:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 600, (PROMPT,), generator=generator).tolist()


def serve(parade: Parade, sessions: int = 2) -> None:
    for number in range(sessions):
        parade.serve(number, prompt(number), OUTPUT, temperature=float(number % 2))


def log_of(folder: Path) -> list[bytes]:
    return list(read_lines(folder / NAME))


def test_honest_sessions_are_accepted_and_their_log_stands(
    opened: Checkpoint, tmp_path: Path
) -> None:
    parade = Parade(tmp_path / "log", stages(opened), ENDS, WIDE)
    serve(parade, 4)
    tally = parade.close()
    checked = check_log(log_of(tmp_path / "log"), MANIFEST)
    assert checked.findings == []
    assert (tally.sampled, tally.accepted, tally.accused) == (8, 8, [])
    assert (checked.audits_due, checked.audits_made, checked.sessions) == (8, 8, 4)
    assert checked.receipts == 4 * 2 * 3  # after the prompt, after 32 more, at the end


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fp8", "int4-g32", "dropped", "foreign"])
def test_a_stage_with_other_weights_is_excluded(
    how: str, opened: Checkpoint, thresholds: list[Threshold], tmp_path: Path
) -> None:
    start, stop = ENDS[1]
    cheat = Stage(downgraded(opened, how, start), start, stop, "bf16", CACHE)
    parade = Parade(tmp_path / "log", stages(opened), ENDS, thresholds, working={1: cheat})
    serve(parade, 1)
    tally = parade.close()
    assert parade.excluded == ["node-1"]
    assert (tally.accused, tally.unverified) == (["node-1"], ["run-0-0"])
    assert tally.rejected >= 1
    checked = check_log(log_of(tmp_path / "log"), MANIFEST)
    assert checked.findings == []
    assert checked.excluded == ("node-1",)


@pytest.mark.slow
def test_forged_activations_are_caught_by_their_tokens(
    opened: Checkpoint, thresholds: list[Threshold], tmp_path: Path
) -> None:
    cheap = downgraded(opened, FORGED)
    forging = [Stage(cheap, start, stop, "bf16", CACHE) for start, stop in ENDS]
    parade = Parade(tmp_path / "log", stages(opened), ENDS, thresholds, forging=forging)
    serve(parade, 1)
    assert parade.close().accused == ["node-1"]
    assert parade.excluded == ["node-1"]


@pytest.mark.parametrize(
    ("stage", "change", "reason"),
    [
        (0, lambda x, at: torch.where(torch.arange(len(x))[:, None] == 3, 5, x).int(), "received"),
        (1, lambda x, at: (x + 1) % 600 if at else x, "other tokens"),
    ],
    ids=["altered prompt", "altered token"],
)
def test_altered_tokens_need_no_audit(
    stage: int,
    change: object,
    reason: str,
    opened: Checkpoint,
    tmp_path: Path,
) -> None:
    alter = {stage: change}
    parade = Parade(
        tmp_path / "log",
        stages(opened),
        ENDS,
        WIDE,
        probability=0.0,
        alter=alter,  # type: ignore[arg-type]
    )
    serve(parade, 1)
    tally = parade.close()
    assert any(reason in finding.reason for finding in tally.findings)
    assert tally.accused == [f"node-{stage}"]
    assert tally.unverified == ["run-0-0"]


def test_a_withheld_receipt_accuses_its_node(opened: Checkpoint, tmp_path: Path) -> None:
    parade = Parade(tmp_path / "log", stages(opened), ENDS, WIDE, probability=0.0, withheld=0)
    serve(parade, 1)
    tally = parade.close()
    assert "withheld" in tally.findings[0].reason
    assert tally.accused == ["node-0"]


def test_a_receipt_sent_again_accuses_its_node(opened: Checkpoint, tmp_path: Path) -> None:
    parade = Parade(tmp_path / "log", stages(opened), ENDS, WIDE, probability=0.0, replayed=0)
    serve(parade, 1)
    assert parade.close().accused == ["node-0"]
