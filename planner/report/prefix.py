"""A cache of prefixes in words."""

from __future__ import annotations

from collections.abc import Iterator

from planner.advice.prefix import PrefixSaving
from planner.core.prefix import PrefixCache
from planner.core.units import show
from planner.report.tables import duration


def prefix_text(cache: PrefixCache, found: PrefixSaving) -> Iterator[str]:
    """What a hit takes against a miss, what is kept where, and whether it pays."""
    place = "near the user" if cache.at == "user" else "at the stages"
    hit = f"{cache.hit_rate:.0%} of the requests hit it"
    yield f"Prefix cache {place}: {cache.tokens} tokens, {hit}"
    sent = ""
    if found.sent_bytes:
        sent = (
            f", {duration(found.sent_s)} of it to send {show(found.sent_bytes, 'bytes', 3)} of "
            "keys and values to the stages"
        )
    yield (
        f"  a prompt takes {duration(found.prompt_s)} without a hit and {duration(found.hit_s)} "
        f"with one{sent}; {duration(found.mean_s)} in the mean"
    )
    kept = ", ".join(f"{node} {show(size, 'bytes', 3)}" for node, size in found.kept_bytes.items())
    yield f"  kept: {kept}; a hit saves {show(found.saved_bytes, 'bytes', 3)} between stages"
    if not found.pays:
        yield "  it does not pay: computing the prefix again is faster than sending it"
    if found.api_usd:
        before, after = found.api_usd
        yield f"  at the cheapest API it lowers {before:.3g} to {after:.3g} USD per million tokens"
