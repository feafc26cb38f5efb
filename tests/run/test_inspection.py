"""Runs whose work is verified: honest ones, ones that lose nodes, and ones with a cheat."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.cluster import Link
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem, Serving
from planner.core.workload import Closed, Fixed, Workload
from planner.receipts.check import Checked, check_log
from planner.receipts.log import read_lines
from planner.receipts.record import Threshold, numeric_class
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.inspection import Inspection
from planner.run.losses import Care, Loss
from planner.run.oversight import Oversight, Verified
from planner.run.prompts import Prompt
from planner.run.seeded import make_checkpoint
from planner.run.separation import separate
from planner.run.settings import Settings
from tests.run.cheats import CheatingPlace
from tests.run.world import pipeline, problem, spec

MODEL = spec(hidden_size=128, intermediate_size=384)
PROMPT, OUTPUT, SESSIONS = 9, 40, 3
MANIFEST = "ab" * 32
Thresholds = dict[tuple[int, int, str], tuple[Threshold, ...]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("run") / "model", MODEL, dtype="bf16")


@pytest.fixture(scope="module")
def thresholds(folder: Path) -> Thresholds:
    stages = plan().pipelines[0].stages
    ends = [(stage.start, stage.stop) for stage in stages]
    found = separate(
        open_checkpoint(folder), ends, "bf16", sessions=12, prompt_tokens=PROMPT, output_tokens=48
    )
    made: Thresholds = {}
    for one in found:
        if (one.pair.dtype, one.pair.kernel) == ("bf16", "sdpa"):
            numeric = numeric_class(stages[one.stage])
            bound = Threshold(
                prover=numeric,
                verifier=numeric,
                accept=one.accept,
                reject=one.reject or 10.0,
                token_gap=one.token_gap or 0.0,
            )
            made[(*ends[one.stage], "bf16")] = (bound,)
    return made


def world() -> Problem:
    return problem(
        4,
        MODEL,
        [
            Link(src="home", dst="*", one_way_latency=0.01, bandwidth=1e12),
            Link(src="*", dst="*", one_way_latency=0.0, bandwidth=1e12),
        ],
        "bf16",
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=PROMPT),
            output=Fixed(tokens=OUTPUT),
            requests=SESSIONS,
        ),
        serving=Serving.model_validate({"detect_s": 2.0}),
    )


def plan(*standbys: Standby) -> Plan:
    return Plan(pipelines=(pipeline(("w0", "w1"), 4, "bf16"),), standbys=standbys)


def verified(
    folder: Path,
    thresholds: Thresholds,
    log: Path,
    chosen: Plan,
    *losses: Loss,
    share: float = 1.0,
    wire: str = "plain",
    **cheats: str,
) -> tuple[Verified, Checked, dict[int, list[int]]]:
    """A run with receipts; nodes named in ``cheats`` cheat that way."""
    asked = world()
    settings = Settings(folder, slot_tokens=64, threads=1, wires={"bf16": wire})
    places = {node: CheatingPlace(how) for node, how in cheats.items()}
    oversight = Oversight(log, MANIFEST, share, thresholds)
    prompts = [
        Prompt(key, 0.0, [(key * 7 + at) % 300 for at in range(PROMPT)], OUTPUT)
        for key in range(SESSIONS)
    ]
    with Fleet(asked.cluster, chosen, settings, places) as fleet:
        tokenizer = open_checkpoint(folder).tokenizer()
        session = Session(fleet, tokenizer, care=Care(asked, False, losses))
        inspection = Inspection(fleet, oversight, session)
        session.run(prompts, 2)
        found = inspection.finish()
    return found, check_log(read_lines(found.log), MANIFEST), session.outputs


def spares() -> Plan:
    return plan(
        Standby(node="w2", pipeline=0, stage=0, state="hot"),
        Standby(node="w3", pipeline=0, stage=1, state="hot"),
    )


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["plain", "int8"])
def test_honest_runs_are_accepted_and_their_log_stands(
    wire: str, folder: Path, thresholds: Thresholds, tmp_path: Path
) -> None:
    found, checked, outputs = verified(folder, thresholds, tmp_path / "log", spares(), wire=wire)
    assert checked.findings == []
    assert (found.tally.sampled, found.tally.accepted) == (2 * SESSIONS, 2 * SESSIONS)
    assert (found.tally.accused, found.tally.unverified) == ([], [])
    assert (checked.sessions, checked.audits_due) == (SESSIONS, 2 * SESSIONS)
    assert checked.receipts == SESSIONS * 2 * 3
    assert all(len(tokens) == OUTPUT for tokens in outputs.values())
    assert found.receipts_s > 0
    assert found.audit_s > 0


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["plain", "int8"])
def test_who_takes_over_signs_from_there_on(
    wire: str, folder: Path, thresholds: Thresholds, tmp_path: Path
) -> None:
    losses, log = (Loss("w0", 0.4), Loss("w1", 0.6)), tmp_path / "log"
    found, checked, outputs = verified(folder, thresholds, log, spares(), *losses, wire=wire)
    assert checked.findings == []
    tally = found.tally
    assert (tally.rejected, tally.accused) == (0, [])
    # One of hundreds of honest sessions is undecided, and here no second verifier is left.
    assert tally.accepted + tally.unanswered + tally.undecided == tally.sampled > 0
    assert tally.undecided <= 1
    assert checked.audits_unanswered == found.tally.unanswered
    assert all(len(tokens) == OUTPUT for tokens in outputs.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "how", "wire"),
    [("w1", "int4-g32", "plain"), ("w1", "dropped", "plain"), ("w0", "int4-g32", "int8")],
)
def test_a_cheat_is_excluded_and_its_standby_goes_on(
    node: str, how: str, wire: str, folder: Path, thresholds: Thresholds, tmp_path: Path
) -> None:
    log, cheats = tmp_path / "log", {node: how}
    found, checked, outputs = verified(folder, thresholds, log, spares(), wire=wire, **cheats)
    assert checked.findings == []
    assert found.tally.accused == [node]
    assert checked.excluded == (node,)
    assert found.tally.unverified
    assert all(len(tokens) == OUTPUT for tokens in outputs.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "how", "reason"),
    [
        ("w0", "altered-prompt", "other tokens than the coordinator sent"),
        ("w0", "altered-byte", "sent other bytes"),
        ("w1", "altered-token", "other tokens than the coordinator received"),
        ("w0", "withheld", "withheld its receipt"),
        ("w1", "replayed", "withheld its receipt"),
    ],
)
def test_what_does_not_fit_together_needs_no_audit(
    node: str, how: str, reason: str, folder: Path, thresholds: Thresholds, tmp_path: Path
) -> None:
    cheats = {node: how}
    found, checked, _ = verified(
        folder, thresholds, tmp_path / "log", spares(), share=0.0, **cheats
    )
    assert any(reason in finding.reason for finding in checked.findings)
    assert node in found.tally.accused
    assert found.tally.unverified
