"""PrefixCache: the first tokens of prompts that others had, too, and where their cache lies."""

from __future__ import annotations

from typing import Literal

from planner.core.spec import Spec
from planner.core.units import Count, Fraction


class PrefixCache(Spec):
    """A cache of the keys and values of common beginnings."""

    tokens: Count
    """Tokens of a beginning."""
    hit_rate: Fraction
    """Share of the requests that begin with one that is cached. A large provider saw hit ratios of
    54 and 62 % in two traces (Wang et al., arXiv 2506.02634)."""
    entries: Count = 1
    """Beginnings that are kept."""
    at: Literal["user", "stages"] = "stages"
    """Near the user, from where every hit is sent to the stages; or with each stage its part."""
