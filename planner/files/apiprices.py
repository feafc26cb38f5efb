"""Prices of APIs from the genai-prices package, which carries them: no network is needed.

Nothing is guessed: only offers that ``aliases.yaml`` names under ``apis`` are used, and only where
the package states a plain price for prompts and answers.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from planner.core.prices import PriceList, TokenPrice
from planner.files.catalogue import Catalogue
from planner.files.names import ALIASES, aliases

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

PACKAGE = "genai-prices"
_MTOK = 1e6


def package_prices(known: Catalogue, model_id: str, today: datetime.date) -> list[PriceList]:
    """What APIs ask for a model, a list per provider, the cheapest answers first."""
    offers = _offers(known, model_id)
    found = []
    for provider in _providers():
        for model in provider.models:
            if f"{provider.id}/{model.id}" in offers:
                price = _price(provider, model, model_id, today)
                if price is not None:
                    found.append(price)
    return sorted(found, key=lambda one: (one.models[0].usd_per_output_token, one.id))


def newest(today: datetime.date) -> datetime.date:
    """Day of the newest dated price in the package that is not in the future.

    The package states no day of its own; all its prices are at least as new as their source was
    read before it was released.
    """
    from genai_prices.types import StartDateConstraint

    days = [
        condition.constraint.start_date
        for provider in _providers()
        for model in provider.models
        if isinstance(model.prices, list)
        for condition in model.prices
        if isinstance(condition.constraint, StartDateConstraint)
    ]
    return max((day for day in days if day <= today), default=datetime.date(2026, 1, 1))


@cache
def _providers() -> Sequence[Provider]:
    from genai_prices.data import providers

    return providers


def _offers(known: Catalogue, model_id: str) -> set[str]:
    """The offers that are that model, in the tables of all profile folders."""
    named: dict[str, str] = {}
    for folder in reversed(known.folders):
        table: Mapping[str, str] = aliases(folder / ALIASES).get("apis", {})
        named |= table
    return {offer for offer, name in named.items() if name == model_id}


def _price(
    provider: Provider, model: ModelInfo, model_id: str, today: datetime.date
) -> PriceList | None:
    """The plain price of an offer on a day; None where there is none."""
    if model.deprecated:
        return None
    noon = datetime.datetime.combine(today, datetime.time(12), datetime.UTC)
    asked = model.get_prices(noon)
    prompt, answer = _plain(asked, "input_mtok"), _plain(asked, "output_mtok")
    if not prompt or not answer:
        return None
    cached = _plain(asked, "cache_read_mtok")
    urls = ", ".join(provider.pricing_urls or ())
    return PriceList(
        id=f"{PACKAGE}:{provider.id}",
        provider=provider.name,
        models=(
            TokenPrice(
                model=model_id,
                usd_per_input_token=prompt / _MTOK,
                usd_per_output_token=answer / _MTOK,
                usd_per_cached_token=None if cached is None else cached / _MTOK,
            ),
        ),
        source=f"{PACKAGE} {version(PACKAGE)}, {provider.id}/{model.id}"
        + (f", which names {urls}" if urls else ""),
        as_of=newest(today),
        note=(model.price_comments or "").strip(),
    )


def _plain(asked: object, field: str) -> float | None:
    """A price that does not depend on the length of the prompt."""
    value = getattr(asked, field, None)
    return float(value) if isinstance(value, Decimal | int | float) else None
