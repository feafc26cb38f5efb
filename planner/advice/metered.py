"""Metered hops: lines on which the activations of a token cost more than an API asks for it."""

from __future__ import annotations

from planner.core.choice import decided
from planner.core.cost.transfer import hidden_payload_bytes, token_payload_bytes
from planner.core.cost.traversal import route
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.spec import Spec

MILLION = 1e6


class MeteredHop(Spec):
    """What a million output tokens send over one hop, and what that costs at the listed price."""

    src: str
    dst: str
    sent_bytes: float
    """Hidden states or token ids of a million tokens, without headers."""
    listed_usd_per_byte: float
    usd: float

    def text(self, cheapest_usd: float | None, maker: str = "") -> str:
        """The hop in words, against what an API asks for a million output tokens."""
        said = (
            f"{self.src} -> {self.dst}: a million tokens are {self.sent_bytes / 1e9:.3g} GB on "
            f"this hop, {self.usd:.3g} USD at {self.listed_usd_per_byte * 1e9:.3g} USD/GB"
        )
        if cheapest_usd is None:
            return said
        if self.usd > cheapest_usd:
            return (
                f"{said}: its egress alone costs more than the cheapest API asks for the tokens "
                f"({cheapest_usd:.3g} USD{', ' + maker if maker else ''})"
            )
        return f"{said}; the cheapest API asks {cheapest_usd:.3g} USD for the tokens"


def metered_hops(problem: Problem, plan: Plan) -> tuple[MeteredHop, ...]:
    """The hops of a plan over lines with a price, each line once; the dearest first."""
    found: dict[tuple[str, str], MeteredHop] = {}
    problem = decided(problem, plan)
    for pipeline in plan.pipelines:
        ways = route(problem, pipeline.nodes)
        quants = [problem.quant(stage.quant) for stage in pipeline.stages]
        for index, (src, dst) in enumerate(ways):
            link = problem.cluster.link(src, dst)
            if link is None or not link.usd_per_byte:
                continue
            inner = {src, dst} <= set(pipeline.nodes) and 0 < index < len(pipeline.stages)
            sent_bytes = (
                hidden_payload_bytes(problem.model, quants[index - 1], MILLION)
                if inner
                else token_payload_bytes(MILLION)
            )
            usd = sent_bytes * link.usd_per_byte
            if (src, dst) not in found or found[src, dst].usd < usd:
                found[src, dst] = MeteredHop(
                    src=src,
                    dst=dst,
                    sent_bytes=sent_bytes,
                    listed_usd_per_byte=link.usd_per_byte,
                    usd=usd,
                )
    return tuple(sorted(found.values(), key=lambda hop: (-hop.usd, hop.src, hop.dst)))
