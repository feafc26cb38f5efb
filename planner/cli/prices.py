"""``planner prices``: newer rents, on request."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption

if TYPE_CHECKING:
    from gpuhunt import Catalog, CatalogItem

    from planner.core.prices import PriceList
    from planner.files.catalogue import Catalogue
    from planner.files.rents import Rents, Row

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

PROVIDERS = {
    "aws": "aws",
    "azure": "azure",
    "gcp": "gcp",
    "lambda": "lambdalabs",
    "nebius": "nebius",
    "oci": "oci",
    "runpod": "runpod",
    "verda": "verda",
    "vast": "vastai",
}
"""Price lists and what the catalogue calls their providers; none of them asks for a key."""
_MARKETS = {"vast"}


@app.callback()
def prices() -> None:
    """Prices of rented GPUs."""


@app.command("refresh")
def refresh(
    provider: Annotated[
        list[str] | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help=f"Price list to refresh, may be repeated: {', '.join(PROVIDERS)}.  [default: all]",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(min=1.0, metavar="S", help="Seconds after which a provider is given up."),
    ] = 30.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Profiles folder to write to.  [default: the user's own]"
        ),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Fetch what GPUs cost today into price lists of your own.

    They win over the bundled ones. Needs the network and the extra `prices`; everything else works
    without. A list that cannot be fetched, or in which nothing makes sense, stays as it is.
    GPUHUNT_CATALOG_DIR names a folder with catalogues that were downloaded before.
    """
    from planner.core.errors import RunError, UsageError
    from planner.files.catalogue import Catalogue, user_profiles
    from planner.files.keys import did_you_mean
    from planner.files.readable import write_card

    wanted = provider or list(PROVIDERS)
    for name in wanted:
        if name not in PROVIDERS:
            said = did_you_mean(name, PROVIDERS)
            raise UsageError(f"{name!r} is no provider{said}", f"known: {', '.join(PROVIDERS)}")
    fetch = _fetcher()
    known, folder = Catalogue(), out or user_profiles()
    written, failed = [], []
    for name in wanted:
        with console.progress(f"fetching prices of {name}"):
            made = _list(name, partial(fetch, name), timeout, known)
        if isinstance(made, str):
            failed.append((name, made))
            console.warn(f"{name}: {made}; the last good list stays")
            continue
        prices, refused = made
        written.append((write_card(folder, prices), prices, refused))
    if not written:
        raise RunError(
            "no price list could be fetched",
            "check the network; bundled prices and those fetched before still work",
        )
    _say(written, failed, format)


def _say(
    written: Sequence[tuple[Path, PriceList, Sequence[str]]],
    failed: Sequence[tuple[str, str]],
    format: Format,
) -> None:
    if format is Format.json:
        console.emit_json(
            {
                "written": [
                    {"list": one.id, "file": str(path), "rows": len(one.devices), "refused": [*no]}
                    for path, one, no in written
                ],
                "failed": [{"list": name, "reason": why} for name, why in failed],
            }
        )
        return
    for path, one, refused in written:
        console.emit(f"{one.id}: {len(one.devices)} prices of {one.as_of} in {path}")
        if refused:
            console.note(f"{one.id}: {len(refused)} rows refused, such as {refused[0]}")


def _fetcher() -> Callable[[str], list[Row]]:
    """What fetches the rows of a list; raises RunError without the extra."""
    from planner.core.errors import RunError

    try:
        from gpuhunt import Catalog
    except ImportError:
        hint = "pip install 'planner[prices]'"
        raise RunError("gpuhunt is not installed, which reads the catalogues", hint) from None
    import logging
    import os

    logging.getLogger("gpuhunt").setLevel(logging.CRITICAL)  # what failed is told by provider
    catalog = Catalog(balance_resources=False, auto_reload=False)
    loading, failures = threading.Lock(), list[Exception]()

    def fetch(name: str) -> list[Row]:
        with loading:
            offline = os.environ.get("GPUHUNT_CATALOG_DIR") or name in _MARKETS
            if not offline and catalog.loaded_at is None:
                if failures:
                    raise failures[0]
                try:
                    catalog.load()
                except Exception as error:
                    failures.append(error)
                    raise
            _join_market(catalog, name)
        return [_row(item) for item in catalog.query(provider=PROVIDERS[name])]

    return fetch


def _join_market(catalog: Catalog, name: str) -> None:
    """Lets the catalogue ask a marketplace, which has no file."""
    if name == "vast" and not catalog.providers:
        from gpuhunt.providers.vastai import VastAIProvider

        catalog.add_provider(VastAIProvider())


def _row(item: CatalogItem) -> Row:
    from planner.files.rents import Row

    return Row(
        instance=item.instance_name,
        location=item.location,
        usd_per_hour=item.price,
        count=item.gpu_count,
        name=item.gpu_name or "",
        gigabytes=item.gpu_memory or 0.0,
        spot=item.spot,
    )


def _list(
    name: str, fetch: Callable[[], list[Row]], timeout_s: float, known: Catalogue
) -> tuple[PriceList, Sequence[str]] | str:
    """The new list and the rows it leaves out; what went wrong where there is none."""
    from planner.files.rents import rents

    rows = _within(fetch, timeout_s)
    if isinstance(rows, str):
        return rows
    found = rents(rows, known, market=name in _MARKETS)
    if not found.devices:
        return f"none of {len(rows)} rows is a price" + (
            f", such as {found.refused[0]}" if found.refused else ""
        )
    return _merged(name, found, known), found.refused


def _merged(name: str, found: Rents, known: Catalogue) -> PriceList:
    """The list there is with new rents: what the catalogue does not say stays."""
    from importlib.metadata import version

    from planner.core.prices import PriceList

    source = f"gpuhunt {version('gpuhunt')} catalogue of {PROVIDERS[name]}"
    today = datetime.date.today()
    if known.find("prices", name) is None:
        return PriceList(id=name, provider=name, devices=found.devices, source=source, as_of=today)
    before, _ = known.get_as("prices", name, PriceList)
    dated = {"as_of": before.as_of, "source": before.source}
    changes: dict[str, object] = {
        "devices": found.devices,
        "source": source,
        "as_of": today,
    }
    for kept in ("transfer", "models"):
        changes[kept] = tuple(
            row.model_copy(
                update={field: getattr(row, field) or value for field, value in dated.items()}
            )
            for row in getattr(before, kept)
        )
    return PriceList.model_validate(dict(before) | changes)


def _within(fetch: Callable[[], list[Row]], timeout_s: float) -> list[Row] | str:
    """What a fetch brings in time; the reason where it brings nothing."""
    came: list[list[Row] | str] = []

    def work() -> None:
        try:
            came.append(fetch())
        except Exception as error:
            came.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return came[0] if came else f"no answer within {timeout_s:g} s"
