"""PriceList: what one provider asked on a day, per hour, token, byte and kilowatt-hour."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from planner.core.spec import Card, Spec
from planner.core.units import UsdPerByte, UsdPerHour, UsdPerJoule, UsdPerToken


class DeviceRent(Spec):
    """Rent of one device, its share of the host included."""

    device: str
    """Device id."""
    usd_per_hour: UsdPerHour = Field(alias="price")
    """Per device, also where only whole machines are let."""
    kind: Literal["on_demand", "spot", "reserved", "market"] = "on_demand"
    """``spot`` can be taken away, ``market`` is what independent hosts ask and varies hourly."""
    region: str = ""
    """Where it holds; everywhere the provider is, if empty."""
    source: str = ""
    """Where this row was read, if not where the card says."""


class TokenPrice(Spec):
    """What an API asks for a model."""

    model: str
    """Model id."""
    usd_per_input_token: UsdPerToken = Field(alias="input")
    usd_per_output_token: UsdPerToken = Field(alias="output")
    source: str = ""
    """Where this row was read, if not where the card says."""


class TransferPrice(Spec):
    """What sending bytes costs the sender."""

    path: Literal["internet", "inter_region", "inter_zone"]
    usd_per_byte: UsdPerByte = Field(alias="egress")
    """First tier, beyond what is free."""
    region: str = ""
    """Where the sender is; anywhere, if empty."""
    source: str = ""
    """Where this row was read, if not where the card says."""


class EnergyPrice(Spec):
    """What energy costs at home or in a business."""

    region: str
    usd_per_joule: UsdPerJoule = Field(alias="price")
    kind: Literal["household", "business"] = "household"
    source: str = ""
    """Where this row was read, if not where the card says."""


class PriceList(Card):
    """Prices of one provider on one day, net of tax and discounts."""

    provider: str
    devices: tuple[DeviceRent, ...] = Field(default=(), alias="gpus")
    models: tuple[TokenPrice, ...] = Field(default=(), alias="apis")
    transfer: tuple[TransferPrice, ...] = ()
    electricity: tuple[EnergyPrice, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> PriceList:
        if not (self.devices or self.models or self.transfer or self.electricity):
            raise ValueError("a price list needs gpus, apis, transfer or electricity")
        return self
