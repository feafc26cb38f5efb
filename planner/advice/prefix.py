"""What a cache of prefixes saves: at the stages, or near the user, from where it has to travel."""

from __future__ import annotations

from planner.core.cost import Batch, kv_bytes_per_sequence, transfer_time, traverse
from planner.core.plan import Plan, Stage
from planner.core.prefix import PrefixCache
from planner.core.prices import TokenPrice
from planner.core.problem import Problem
from planner.core.spec import Spec


class PrefixSaving(Spec):
    """A request of mean length with and without a hit, on the first pipeline of a plan."""

    prompt_s: float
    """Prompt without a hit, nothing else under way."""
    hit_s: float
    """With a hit: the rest of the prompt computed, and the cache sent where it lies elsewhere."""
    sent_s: float
    """Of that, for sending the cache to the stages."""
    sent_bytes: float
    """Cache that a hit sends, over all lines."""
    mean_s: float
    """Over hits and misses."""
    saved_bytes: float
    """Hidden states that a hit does not send between stages."""
    kept_bytes: dict[str, float]
    """Memory that the entries take, by node; by the coordinator where they lie near the user."""
    api_usd: tuple[float, float] | None = None
    """USD per million output tokens at an API with a price for cached ones: without, with."""

    @property
    def pays(self) -> bool:
        """Whether a hit is faster than a miss."""
        return self.hit_s < self.prompt_s


def prefix_saving(
    problem: Problem, plan: Plan, cache: PrefixCache, price: TokenPrice | None = None
) -> PrefixSaving:
    """What a cache of prefixes saves; a prefix is never all of a prompt."""
    pipeline = plan.pipelines[0]
    prompt = problem.workload.prompts.mean_tokens
    prefix = min(float(cache.tokens), prompt - 1)
    whole_s = traverse(problem, pipeline, Batch.prefill(prompt)).total_s
    rest_s = traverse(problem, pipeline, Batch.prefill(prompt - prefix, prefix)).total_s
    each = {stage.node: _kv_bytes(problem, stage, cache.tokens) for stage in pipeline.stages}
    sent_s = sent_bytes = 0.0
    home = problem.cluster.coordinator
    kept = {node: size * cache.entries for node, size in each.items()}
    if cache.at == "user":
        kept = {home: sum(kept.values())}
        for node, size in each.items():
            link = problem.cluster.link(home, node)
            if link is not None:
                sent_bytes += size
                way = transfer_time(link, size, problem.engine, "prefill")
                sent_s = max(sent_s, way.total_s)
    hit_s = rest_s + sent_s
    hops = len(pipeline.stages) - 1
    hidden = problem.model.hidden_size * problem.model.residual_streams
    wire = [problem.quant(stage.quant).wire_bits / 8 for stage in pipeline.stages[:hops]]
    return PrefixSaving(
        prompt_s=whole_s,
        hit_s=hit_s,
        sent_s=sent_s,
        sent_bytes=sent_bytes,
        mean_s=cache.hit_rate * min(hit_s, whole_s) + (1 - cache.hit_rate) * whole_s,
        saved_bytes=prefix * hidden * sum(wire),
        kept_bytes=kept,
        api_usd=_api_usd(problem, cache, prefix, price),
    )


def _kv_bytes(problem: Problem, stage: Stage, tokens: int) -> float:
    """Keys and values of a prefix in the layers of a stage."""
    quant = problem.quant(stage.quant)
    return sum(
        kv_bytes_per_sequence(problem.model.layers[index], quant, problem.engine, tokens)
        for index in stage.layers
    )


def _api_usd(
    problem: Problem, cache: PrefixCache, prefix: float, price: TokenPrice | None
) -> tuple[float, float] | None:
    if price is None or price.usd_per_cached_token is None:
        return None
    prompt, output = problem.workload.prompts.mean_tokens, problem.workload.output.mean_tokens
    without = price.request_usd(prompt, output)
    with_hits = price.request_usd(prompt, output, cache.hit_rate * prefix)
    return without / output * 1e6, with_hits / output * 1e6
