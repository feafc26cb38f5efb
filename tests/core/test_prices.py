import datetime

import pytest
from pydantic import ValidationError

from planner.core.prices import PriceList
from planner.core.units import FROM_FILE


def listed(**rows: object) -> PriceList:
    card = {"id": "p", "provider": "P", "source": "s", "as_of": datetime.date(2026, 1, 1)}
    return PriceList.model_validate(card | rows, context={FROM_FILE: True})


def test_prices_are_read_with_their_units() -> None:
    prices = listed(
        gpus=[{"device": "chip", "price": "0.40 USD/h", "kind": "market"}],
        apis=[{"model": "m", "input": "0.13 USD/Mtok", "output": "0.40 USD/Mtok"}],
        transfer=[{"path": "internet", "egress": "0.09 USD/GB"}],
        electricity=[{"region": "us", "price": "0.18 USD/kWh"}],
    )
    assert prices.devices[0].usd_per_hour == 0.40
    assert prices.models[0].usd_per_output_token == pytest.approx(0.40e-6)
    assert prices.transfer[0].usd_per_byte == pytest.approx(0.09e-9)
    assert prices.electricity[0].usd_per_joule == pytest.approx(0.18 / 3.6e6)


def test_a_list_without_prices_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="needs gpus, apis, transfer, electricity or purchases"
    ):
        listed()
