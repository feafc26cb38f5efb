"""Alternatives: what else could serve a scenario's model and requests."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from planner.core.prices import PriceList, TokenPrice
from planner.core.problem import Problem
from planner.files.apiprices import PACKAGE, package_prices
from planner.files.catalogue import Catalogue
from planner.files.offers import Offer, PriceTag, Unavailable
from planner.files.owned import owned
from planner.files.rented import rented
from planner.files.surface import OwnEntry, RentEntry

_APIS = 3
"""Providers that are compared where a scenario names none: the cheapest ones for its requests."""


@dataclass(frozen=True, slots=True)
class Api:
    """A per-token API that could answer the scenario's requests."""

    price: TokenPrice
    prices: PriceList
    """The list the price is from, with its date and source."""
    file: str = ""
    """Where the list is."""

    @property
    def name(self) -> str:
        """Provider and model."""
        return f"{self.prices.provider} {self.price.model}"

    @property
    def as_of(self) -> datetime.date:
        """Day of the price."""
        return self.price.as_of or self.prices.as_of

    @property
    def tag(self) -> PriceTag:
        """The price with where it is from."""
        per = [self.price.usd_per_input_token, self.price.usd_per_output_token]
        value = " / ".join(f"{usd * 1e6:.3g}" for usd in per) + " USD/Mtok in / out"
        source = self.price.source or self.prices.source
        return PriceTag(self.name, value, self.as_of, source, self.file)


def default_alternatives(
    problem: Problem, known: Catalogue, today: datetime.date
) -> list[Offer | Unavailable | Api]:
    """Rented, own and per-token ways to serve a problem, for scenarios that name none."""
    found: list[Offer | Unavailable | Api] = [
        rented(RentEntry(kind="on_demand"), problem, known),
        rented(RentEntry(kind="spot"), problem, known),
        rented(RentEntry(kind="reserved"), problem, known),
        rented(RentEntry(kind="market"), problem, known),
        owned(OwnEntry(), problem, known),
    ]
    return found + cheapest_apis(problem, known, today)


def cheapest_apis(
    problem: Problem, known: Catalogue, today: datetime.date
) -> list[Offer | Unavailable | Api]:
    """The cheapest providers of a model for the requests of a problem, each once."""
    prompt, output = problem.workload.prompts.mean_tokens, problem.workload.output.mean_tokens

    def usd(api: Api) -> tuple[float, str]:
        return api.price.request_usd(prompt, output), api.name

    return list(sorted(_apis(problem, known, today), key=usd)[:_APIS])


def cheapest_tokens(problem: Problem, known: Catalogue, today: datetime.date) -> Api | None:
    """The API that asks least for an output token of the model; None where none has it."""
    found = _apis(problem, known, today)
    return min(found, key=lambda api: (api.price.usd_per_output_token, api.name), default=None)


def _apis(problem: Problem, known: Catalogue, today: datetime.date) -> list[Api]:
    """All providers of a model, each once.

    Price lists of one's own win over those of the package, the package over the bundled ones.
    """
    bundled = known.folders[-1]
    offers: dict[str, Api] = {}
    for prices, path in _listed(known):
        if not path.is_relative_to(bundled):
            offers |= _of_model(prices, str(path), problem.model.id)
    for prices in package_prices(known, problem.model.id, today):
        for name, api in _of_model(prices, PACKAGE, problem.model.id).items():
            offers.setdefault(name, api)
    for prices, path in _listed(known):
        if prices.id != "api-cheapest":
            for name, api in _of_model(prices, str(path), problem.model.id).items():
                offers.setdefault(name, api)
    return list(offers.values())


def api_of_package(name: str, model: str, known: Catalogue, today: datetime.date) -> Api | None:
    """The price of a provider in the package, named ``genai-prices:PROVIDER``."""
    for prices in package_prices(known, model, today):
        if prices.id == name:
            return Api(prices.models[0], prices, PACKAGE)
    return None


def _listed(known: Catalogue) -> list[tuple[PriceList, Path]]:
    return [known.get_as("prices", name, PriceList) for name in known.names("prices")]


def _of_model(prices: PriceList, file: str, model: str) -> dict[str, Api]:
    """The offer of a list by who makes it, whatever the list calls its maker beyond the name."""
    price = next((price for price in prices.models if price.model == model), None)
    maker = prices.provider.split()[0].casefold()
    return {} if price is None else {maker: Api(price, prices, file)}
