"""Audits by re-execution: honest stages pass whatever their kernels, cheaper ones do not."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from planner.receipts.audit import verdict
from planner.receipts.record import NumericClass, Threshold
from planner.receipts.tree import Witness
from planner.run.checkpoint import Checkpoint
from planner.run.downgrade import DOWNGRADES, OTHERS
from planner.run.model import CacheShape, Stage
from planner.run.passages import decode_again, generate
from planner.run.reexecution import DISTANCE_LIMIT, Passage, reexecute
from planner.run.separation import (
    FORGED,
    Separation,
    attention,
    downgraded,
    forge,
    pairs_of,
    separate,
)
from tests.run.world import checkpoint

PROMPT, OUTPUT = 16, 40
CACHE = CacheShape(8, PROMPT + OUTPUT)
ENDS = ((0, 2), (2, 4))


def opened(folder: Path, **changes: int) -> Checkpoint:
    shape = {"hidden_size": 128, "intermediate_size": 384, "vocab_size": 600}
    return checkpoint(folder, dtype="bf16", **(shape | changes))


def stages(of: Checkpoint, quant: str = "bf16") -> list[Stage]:
    return [Stage(of, start, stop, quant, CACHE) for start, stop in ENDS]


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 600, (count, PROMPT), generator=generator).tolist()


def test_in_fp32_a_stage_decoded_is_the_stage_prefilled(tmp_path: Path) -> None:
    chain = stages(opened(tmp_path), "fp32")
    for session in generate(chain, prompts(3), OUTPUT, 0.7):
        for stage, passage in zip(chain, session, strict=True):
            found = reexecute(stage, passage)
            assert found.distance < 1e-5
            assert found.token_gap is None or found.token_gap < 1e-4


def test_decoding_the_same_inputs_again_gives_the_same(tmp_path: Path) -> None:
    chain = stages(opened(tmp_path))
    for index, stage in enumerate(chain):
        batch = [session[index] for session in generate(chain, prompts(3), OUTPUT, 1.0)]
        for once, again in zip(batch, decode_again(stage, batch), strict=True):
            assert torch.equal(once.y, again.y)
            assert once.tokens is None or torch.equal(once.tokens, again.tokens)


def test_outputs_that_are_no_numbers_are_as_far_off_as_can_be(tmp_path: Path) -> None:
    chain = stages(opened(tmp_path))
    passage = generate(chain, prompts(1), OUTPUT, 0.0)[0][0]
    broken = passage.y.clone()
    broken[-1, 3] = torch.nan
    found = reexecute(chain[0], Passage(passage.x, broken, PROMPT))
    assert found.distance == DISTANCE_LIMIT


def test_short_answers_are_judged_by_their_prompts_too(tmp_path: Path) -> None:
    chain = stages(opened(tmp_path))
    passage = generate(chain, prompts(1), 3, 0.0)[0][0]
    broken = passage.y.clone()
    broken[PROMPT - 1] += 100
    assert reexecute(chain[0], passage).distance < 0.1
    assert reexecute(chain[0], Passage(passage.x, broken, PROMPT)).distance > 0.1


@pytest.mark.slow
def test_what_cannot_be_told_apart_is_said(tmp_path: Path) -> None:
    found = separate(
        opened(tmp_path), ENDS, "bf16", sessions=9, prompt_tokens=PROMPT, output_tokens=OUTPUT
    )
    assert [(one.stage, one.pair) for one in found] == [
        (stage, pair) for stage in (0, 1) for pair in pairs_of("bf16")
    ]
    for one in found:
        assert one.sessions == 9
        assert set(one.cheats) == {*DOWNGRADES, *OTHERS}
        assert set(one.separable) >= {"int4-g32", "dropped", "foreign"}
        assert set(one.separable) | set(one.not_separable) == set(one.cheats)
        assert one.reject is not None
        assert one.reject > one.accept


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_thousand_honest_sessions_pass_and_cheats_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thresholds from some sessions, verdicts on others; counts are printed."""
    of = opened(tmp_path, num_attention_heads=4, num_key_value_heads=2)
    known = {
        (one.stage, one.pair): one
        for one in separate(
            of, ENDS, "bf16", sessions=64, prompt_tokens=PROMPT, output_tokens=OUTPUT, seed=1
        )
    }
    chain = stages(of)
    batches = [
        generate(chain, prompts(8 if turn % 2 else 1, 100 + turn), OUTPUT, turn // 2 % 2)
        for turn in range(30)
    ]
    honest: Counter[str] = Counter()
    caught: dict[str, Counter[str]] = defaultdict(Counter)
    for index, verifier in enumerate(chain):
        passages = [[session[index] for session in batch] for batch in batches]
        for pair in pairs_of("bf16"):
            prover = Stage(of, *ENDS[index], pair.dtype, CACHE)
            for batch in passages:
                with attention(pair.kernel):
                    again = decode_again(prover, batch)
                honest.update(judged(verifier, passage, known[index, pair]) for passage in again)
        same = known[index, pairs_of("bf16")[0]]
        for how in same.separable:
            cheat = Stage(downgraded(of, how, ENDS[index][0]), *ENDS[index], "bf16", CACHE)
            for batch in passages[:8]:
                again = decode_again(cheat, batch)
                caught[how].update(judged(verifier, passage, same) for passage in again)
    cheap = [Stage(downgraded(of, FORGED), *end, "bf16", CACHE) for end in ENDS]
    for session in generate(cheap, prompts(8, 999), OUTPUT, 0.0):
        caught["forged"][judged(chain[-1], forge(chain, session), same)] += 1
    with capsys.disabled():
        sys.stdout.write(f"\nhonest stage-sessions: {dict(honest)}\n")
        sys.stdout.writelines(f"{how}: {dict(counts)}\n" for how, counts in caught.items())
    assert honest.total() >= 1000
    assert honest["reject"] == 0
    assert honest["undecided"] <= 0.01 * honest.total()
    assert {"fp8", "int4-g32", "dropped", "foreign", "forged"} <= set(caught)
    for how, counts in caught.items():
        least = 0.99 if how.startswith("int8") else 1.0
        assert counts["reject"] + counts["undecided"] >= least * counts.total(), how
        assert counts["reject"] >= (0.9 if how.startswith("int8") else 1.0) * counts.total(), how


def judged(verifier: Stage, passage: Passage, known: Separation) -> str:
    """The verdict on a passage under calibrated thresholds."""
    found = reexecute(verifier, passage)
    one = NumericClass(dtype="bf16", quant="bf16", kernel="sdpa")
    assert known.reject is not None
    bounds = Threshold(
        prover=one,
        verifier=one,
        accept=known.accept,
        reject=known.reject,
        token_gap=known.token_gap or 0.0,
    )
    return verdict(found.distance, found.token_gap, bounds)


@pytest.mark.parametrize("altered", ["prompt", "token", "link"])
def test_bytes_that_were_altered_change_a_root(tmp_path: Path, altered: str) -> None:
    """Both neighbours of a boundary sign the same root exactly when they saw the same bytes."""
    chain = stages(opened(tmp_path))
    session = generate(chain, prompts(1), OUTPUT, 0.0)[0]
    tokens = session[-1].tokens
    assert tokens is not None
    boundary = {"prompt": session[0].x, "link": session[0].y, "token": tokens}[altered]
    received = boundary.clone()
    received.view(torch.uint8).flatten()[5] ^= 1
    roots = []
    for rows in (boundary, received):
        witness = Witness("session", 0)
        for position, row in enumerate(rows):
            payload = row.reshape(-1).view(torch.uint8).numpy().tobytes()
            witness.see(position, str(row.dtype), row.shape, payload)
        roots.append(witness.tree.root)
    assert roots[0] != roots[1]
