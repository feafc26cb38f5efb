"""Separation: where honest noise ends and other weights begin, measured stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch.nn.attention import SDPBackend, sdpa_kernel

from planner.core.errors import RunError
from planner.core.plan import Plan
from planner.core.rng import stream
from planner.receipts.record import KERNEL
from planner.run.checkpoint import Checkpoint
from planner.run.downgrade import DOWNGRADES, OTHERS, Downgraded
from planner.run.model import CacheShape, Stage
from planner.run.passages import decode_again, generate
from planner.run.reexecution import Deviation, Passage, reexecute

KERNELS = (KERNEL, "math")
"""Attention kernels a prover may have; the verifier has torch's own choice."""
BATCH = 8
FORGED = "int4-g32"
"""Weights that tokens are forged with: cheap decode, honest activations afterwards."""
_ACCEPT, _REJECT = 1.25, 0.8


@dataclass(frozen=True, slots=True)
class NumericPair:
    """Number format and attention kernel of a prover; its verifier computes in ``quant``."""

    dtype: str
    kernel: str
    quant: str


@dataclass(frozen=True, slots=True)
class Separation:
    """What was measured of one stage for one pair of numeric classes."""

    stage: int
    pair: NumericPair
    sessions: int
    honest: float
    """Largest distance of an honest session."""
    cheats: dict[str, float]
    """Smallest distance of a session with other weights, by what they were."""
    honest_gap: float | None
    forged_gap: float | None
    """Largest token gap of honest sessions and smallest of forged ones, on the last stage."""

    @property
    def accept(self) -> float:
        """Distance up to which a session is accepted."""
        return _ACCEPT * self.honest

    @property
    def separable(self) -> tuple[str, ...]:
        """Weights that are told from honest ones."""
        return tuple(how for how, least in self.cheats.items() if _REJECT * least > self.accept)

    @property
    def not_separable(self) -> tuple[str, ...]:
        """Weights that honest noise hides."""
        return tuple(how for how in self.cheats if how not in self.separable)

    @property
    def reject(self) -> float | None:
        """Distance from which a session is rejected; None if nothing can be told."""
        known = [self.cheats[how] for how in self.separable]
        return _REJECT * min(known) if known else None

    @property
    def token_gap(self) -> float | None:
        """Token gap from which tokens were forged: the geometric middle; None if it is no bound."""
        if self.honest_gap is None or self.forged_gap is None:
            return None
        floor = max(self.honest_gap, 1e-5)
        return math.sqrt(floor * self.forged_gap) if self.forged_gap > 2 * floor else None


def separate(
    checkpoint: Checkpoint,
    ends: Sequence[tuple[int, int]],
    quant: str,
    *,
    sessions: int,
    prompt_tokens: int,
    output_tokens: int,
    seed: int = 0,
    done: Callable[[float], None] = lambda _share: None,
) -> list[Separation]:
    """Distances of honest and of downgraded stages, for stages of layers ``ends``.

    Honest sessions run alone and in batches, greedily and with a temperature, with each attention
    kernel and, for a 16-bit verifier, in fp32 too. ``done`` hears of the share that was done.
    """
    cache = CacheShape(BATCH, prompt_tokens + output_tokens)
    verifiers = [Stage(checkpoint, start, stop, quant, cache) for start, stop in ends]
    honest = _sessions(verifiers, sessions, prompt_tokens, output_tokens, seed)
    forged_gap = _forged_gap(checkpoint, ends, quant, cache, verifiers, honest)
    found = []
    for index, (verifier, (start, stop)) in enumerate(zip(verifiers, ends, strict=True)):
        batches = [[session[index] for session in batch] for batch in honest]
        cheats = {}
        for how in (*DOWNGRADES, *OTHERS):
            cheat = Stage(downgraded(checkpoint, how, start), start, stop, quant, cache)
            few = batches[: max(2, len(batches) // 4)]
            cheats[how] = min(one.distance for one in _deviations(verifier, cheat, few))
        for pair in pairs_of(quant):
            same = pair.dtype == quant
            prover = verifier if same else Stage(checkpoint, start, stop, pair.dtype, cache)
            deviations = _deviations(verifier, prover, batches, pair.kernel)
            gaps = [one.token_gap for one in deviations if one.token_gap is not None]
            found.append(
                Separation(
                    stage=index,
                    pair=pair,
                    sessions=len(deviations),
                    honest=max(one.distance for one in deviations),
                    cheats=cheats,
                    honest_gap=max(gaps) if gaps else None,
                    forged_gap=forged_gap if gaps else None,
                )
            )
        done(1 / len(ends))
    return found


def separate_plan(
    checkpoint: Checkpoint,
    plan: Plan,
    *,
    sessions: int,
    prompt_tokens: int,
    output_tokens: int,
    seed: int,
    done: Callable[[float], None],
) -> list[list[Separation]]:
    """As ``separate``, of the stages of each pipeline; RunError where one mixes quantizations."""
    found = []
    for pipeline in plan.pipelines:
        quants = {stage.quant for stage in pipeline.stages}
        if len(quants) > 1:
            raise RunError(
                f"a pipeline mixes {', '.join(sorted(quants))}",
                "audits are calibrated for pipelines of one quantization",
            )
        ends = [(stage.start, stage.stop) for stage in pipeline.stages]
        found.append(
            separate(
                checkpoint,
                ends,
                quants.pop(),
                sessions=sessions,
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
                seed=seed,
                done=done,
            )
        )
    return found


def pairs_of(quant: str) -> list[NumericPair]:
    """Numeric classes of provers whose results a verifier in ``quant`` can judge."""
    dtypes = (quant, "fp32") if quant == "bf16" else (quant,)
    return [NumericPair(dtype, kernel, quant) for dtype in dtypes for kernel in KERNELS]


def attention(kernel: str) -> AbstractContextManager[None]:
    """Within it stages compute attention with the kernel of that name."""
    return sdpa_kernel(SDPBackend.MATH) if kernel == "math" else nullcontext()


def _sessions(
    stages: Sequence[Stage], count: int, prompt_tokens: int, output_tokens: int, seed: int
) -> list[list[list[Passage]]]:
    """Honest passages by batch, session and stage; batches of eight and single sessions in turn."""
    random = stream(seed, "separation")
    vocabulary = stages[0].config.vocab_size
    batches: list[list[list[Passage]]] = []
    while (made := sum(map(len, batches))) < count:
        size = min(BATCH if len(batches) % 2 == 0 else 1, count - made)
        prompts = [
            [random.randrange(vocabulary) for _ in range(prompt_tokens)] for _ in range(size)
        ]
        temperature = float(len(batches) // 2 % 2)
        batches.append(generate(stages, prompts, output_tokens, temperature))
    return batches


def _deviations(
    verifier: Stage, prover: Stage, batches: Sequence[list[Passage]], kernel: str = KERNELS[0]
) -> list[Deviation]:
    """How far what ``prover`` makes of the inputs of passages is from what ``verifier`` does."""
    found = []
    for batch in batches:
        with attention(kernel):
            passages = decode_again(prover, batch)
        found += [reexecute(verifier, passage) for passage in passages]
    return found


def _forged_gap(
    checkpoint: Checkpoint,
    ends: Sequence[tuple[int, int]],
    quant: str,
    cache: CacheShape,
    verifiers: Sequence[Stage],
    honest: Sequence[list[list[Passage]]],
) -> float:
    """Smallest token gap of sessions whose tokens come from cheap weights in all stages."""
    cheap = [
        Stage(downgraded(checkpoint, FORGED), start, stop, quant, cache) for start, stop in ends
    ]
    gaps = []
    for batch in honest[:4]:
        prompts = [session[0].x[: session[0].prompt_tokens].tolist() for session in batch]
        tokens = len(batch[0][0].x) - len(prompts[0]) + 1
        for session in generate(cheap, prompts, tokens, batch[0][0].seat.temperature):
            gaps.append(reexecute(verifiers[-1], forge(verifiers, session)).token_gap or 0.0)
    return min(gaps)


def forge(honest: Sequence[Stage], session: Sequence[Passage]) -> Passage:
    """The last stage's passage with the session's tokens and honestly computed activations."""
    x = session[0].x
    for stage in honest[:-1]:
        x = stage.prefill_hidden(x, 0)
    y = honest[-1].prefill_hidden(x, 0)
    last = session[-1]
    return Passage(x, y, last.prompt_tokens, last.tokens, last.seat)


def downgraded(checkpoint: Checkpoint, how: str, dropped: int = -1) -> Checkpoint:
    """The checkpoint as a node has it that saves itself the honest work."""
    return Downgraded(
        checkpoint.directory, checkpoint.config, checkpoint.entries, how=how, dropped=dropped
    )
