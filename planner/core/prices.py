"""PriceList: what one provider asked on a day, per hour, token, byte and kilowatt-hour."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.core.cluster import EgressStep
from planner.core.spec import Card, Spec
from planner.core.units import (
    Bytes,
    Fraction,
    Seconds,
    TokensPerSecond,
    Usd,
    UsdPerByte,
    UsdPerHour,
    UsdPerJoule,
    UsdPerToken,
)

RentKind = Literal["on_demand", "spot", "reserved", "market"]
FRESH_DAYS = 30
"""Prices older than this deserve a warning."""


class DeviceRent(Spec):
    """Rent of one device, its share of the host included."""

    device: str
    """Device id."""
    usd_per_hour: UsdPerHour = Field(alias="price")
    """Per device, also where only whole machines are let."""
    kind: RentKind = "on_demand"
    """``spot`` can be taken away, ``market`` is what independent hosts ask and varies hourly."""
    region: str = ""
    """Where it holds; everywhere the provider is, if empty."""
    source: str = ""
    """Where this row was read, if not where the card says."""
    as_of: datetime.date | None = None
    """Day of this row, if not that of the card."""


class TokenPrice(Spec):
    """What an API asks for a model."""

    model: str
    """Model id."""
    usd_per_input_token: UsdPerToken = Field(alias="input")
    usd_per_output_token: UsdPerToken = Field(alias="output")
    usd_per_cached_token: UsdPerToken | None = Field(default=None, alias="cached_input")
    """Prompt tokens that the provider has cached; as any other where absent."""
    ttft_s: Seconds | None = Field(default=None, alias="ttft")
    """Time to the first token as somebody measured it; None where nobody published it."""
    tokens_per_s: TokensPerSecond | None = Field(default=None, alias="speed")
    """Output tokens per second of one request, measured; None where nobody published it."""
    failed: Annotated[Fraction, Field(lt=1)] = 0.0
    """Share of the requests that fail after their prompt was charged, and are sent again."""
    source: str = ""
    """Where this row was read, if not where the card says."""
    as_of: datetime.date | None = None
    """Day of this row, if not that of the card."""

    @property
    def tries(self) -> float:
        """How often a request is sent until it is answered, in the mean."""
        return 1 / (1 - self.failed)

    def request_usd(self, prompt: float, output: float, cached: float = 0.0) -> float:
        """What an answered request costs, retries included (USD).

        ``cached`` of its prompt tokens are those that the provider has.
        """
        kept = self.usd_per_cached_token
        each = self.usd_per_input_token if kept is None else kept
        asked = (prompt - cached) * self.usd_per_input_token + cached * each
        return asked * self.tries + output * self.usd_per_output_token


class TransferPrice(Spec):
    """What sending bytes costs the sender."""

    path: Literal["internet", "inter_region", "inter_zone"]
    usd_per_byte: UsdPerByte = Field(alias="egress")
    """First tier, beyond what is free."""
    free_bytes_per_month: Bytes = Field(default=0.0, alias="free")
    """What an account may send in a month before anything is charged."""
    egress_steps: tuple[EgressStep, ...] = Field(default=(), alias="steps")
    """Other prices beyond some volume."""
    region: str = ""
    """Where the sender is; anywhere, if empty."""
    source: str = ""
    """Where this row was read, if not where the card says."""
    as_of: datetime.date | None = None
    """Day of this row, if not that of the card."""


class EnergyPrice(Spec):
    """What energy costs at home or in a business."""

    region: str
    usd_per_joule: UsdPerJoule = Field(alias="price")
    kind: Literal["household", "business"] = "household"
    source: str = ""
    """Where this row was read, if not where the card says."""
    as_of: datetime.date | None = None
    """Day of this row, if not that of the card."""


class Purchase(Spec):
    """What one device costs to buy, with its share of a machine to put it in."""

    device: str
    usd: Usd = Field(alias="price")
    """The device alone, or the whole machine where it is sold as one."""
    host_usd: Usd = Field(default=0.0, alias="host")
    """The rest of a machine that holds up to ``per_host`` of them."""
    per_host: int = Field(default=1, ge=1)
    condition: Literal["new", "used"] = "new"
    source: str = ""
    """Where this row was read, if not where the card says."""
    as_of: datetime.date | None = None
    """Day of this row, if not that of the card."""

    def machine_usd(self, count: int) -> float:
        """Price of machines with ``count`` devices in all."""
        hosts = -(-count // self.per_host)
        return count * self.usd + hosts * self.host_usd


class PriceList(Card):
    """Prices of one provider on one day, net of tax and discounts."""

    provider: str
    billed_by_s: Seconds = Field(default=0.0, alias="billed_by")
    """Increment to which a rental is rounded up; 0 where seconds are billed, or nothing is known.
    """
    start_up_s: Seconds = Field(default=0.0, alias="start_up")
    """Typical time from order to a machine that answers, if it was ever published."""
    devices: tuple[DeviceRent, ...] = Field(default=(), alias="gpus")
    models: tuple[TokenPrice, ...] = Field(default=(), alias="apis")
    transfer: tuple[TransferPrice, ...] = ()
    electricity: tuple[EnergyPrice, ...] = ()
    purchases: tuple[Purchase, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> PriceList:
        if not (self.devices or self.models or self.transfer or self.electricity or self.purchases):
            raise ValueError("a price list needs gpus, apis, transfer, electricity or purchases")
        return self

    @model_validator(mode="after")
    def _plausible(self) -> PriceList:
        for rent in self.devices:
            if rent.usd_per_hour <= 0:
                raise ValueError(f"{rent.device} for nothing is no price; leave the row out")
        asked = {
            (rent.device, rent.region): rent.usd_per_hour
            for rent in self.devices
            if rent.kind == "on_demand"
        }
        for rent in self.devices:
            whole = asked.get((rent.device, rent.region))
            if rent.kind == "spot" and whole is not None and rent.usd_per_hour >= whole:
                raise ValueError(
                    f"spot of {rent.device} is not below on-demand, so it is no spot price; "
                    "leave the row out"
                )
        return self

    def age_days(self, today: datetime.date) -> int:
        """How old the prices are."""
        return (today - self.as_of).days
