"""Quotes: every price on the lists of something, with its day, its source and the file that won."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from planner.core.prices import PriceList
from planner.core.quote import Quote
from planner.files.apiprices import PACKAGE, package_prices
from planner.files.catalogue import Catalogue, Kind
from planner.files.names import resolve


def quotes(known: Catalogue, name: str, today: datetime.date) -> list[Quote]:
    """The prices that ``name`` means: of a device, a model, a list, or LIST/NAME.

    Lists come in the order of their names; APIs of the package last.
    """
    only, _, rest = name.partition("/")
    if rest and known.find("prices", only) is not None:
        return [one for one in _of_list(known, only) if _means(known, one, rest)]
    if known.find("prices", name) is not None:
        return list(_of_list(known, name))
    found = [
        one
        for listed in known.names("prices")
        for one in _of_list(known, listed)
        if _means(known, one, name)
    ]
    model = resolve(known, "models", name)
    if model is not None:
        for prices in package_prices(known, model, today):
            found += _rows(prices, PACKAGE, ())
    return found


def _means(known: Catalogue, one: Quote, name: str) -> bool:
    kinds: tuple[Kind, ...] = ("devices", "models")
    return one.what == name or any(resolve(known, kind, name) == one.what for kind in kinds)


def _of_list(known: Catalogue, name: str) -> Iterator[Quote]:
    card, path = known.get_as("prices", name, PriceList)
    others = (folder / "prices" / f"{name}.yaml" for folder in known.folders)
    beats = tuple(str(one) for one in others if one != path and Path(one).is_file())
    yield from _rows(card, str(path), beats)


def _rows(prices: PriceList, file: str, beats: tuple[str, ...]) -> Iterator[Quote]:
    def made(
        what: str, kind: str, region: str, value: str, row_day: datetime.date | None, said: str
    ) -> Quote:
        day, source = row_day or prices.as_of, said or prices.source
        where = (prices.id, prices.provider)
        return Quote(*where, what, kind, region, value, day, source, file, beats)

    for rent in prices.devices:
        value = f"{rent.usd_per_hour:.4g} USD/h"
        yield made(rent.device, rent.kind, rent.region, value, rent.as_of, rent.source)
    for price in prices.models:
        for kind, usd in (
            ("input", price.usd_per_input_token),
            ("cached input", price.usd_per_cached_token),
            ("output", price.usd_per_output_token),
        ):
            if usd is not None:
                value = f"{usd * 1e6:.4g} USD/Mtok"
                yield made(price.model, kind, "", value, price.as_of, price.source)
    for sent in prices.transfer:
        value = f"{sent.usd_per_byte * 1e9:.4g} USD/GB"
        if sent.free_bytes_per_month:
            value += f", {sent.free_bytes_per_month / 1e9:.4g} GB a month free"
        yield made("egress", sent.path, sent.region, value, sent.as_of, sent.source)
    for energy in prices.electricity:
        value = f"{energy.usd_per_joule * 3.6e6:.4g} USD/kWh"
        yield made("electricity", energy.kind, energy.region, value, energy.as_of, energy.source)
    for bought in prices.purchases:
        value = f"{bought.usd:,.0f} USD"
        if bought.host_usd:
            value += f", host for {bought.per_host} {bought.host_usd:,.0f} USD"
        kind = f"purchase {bought.condition}"
        yield made(bought.device, kind, "", value, bought.as_of, bought.source)
