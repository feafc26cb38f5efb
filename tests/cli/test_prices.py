"""``planner prices refresh`` and ``planner show price``, without a network."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest

from planner.cli import prices
from planner.files.catalogue import Catalogue
from planner.files.rents import Row, rents
from tests.cli.world import Terminal

LEFT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""gpuhunt leaves the files that it reads open."""

HEADER = (
    "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,"
    "gpu_vendor,flags,cpu_arch,provider_data\n"
)


def catalogue(folder: Path, provider: str, *rows: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{provider}.csv").write_text(HEADER + "".join(row + "\n" for row in rows))


def line(instance: str, price: float, count: int, name: str, gb: float, spot: bool) -> str:
    return f"{instance},eu-north1,{price},16,200,{count},{name},{gb},{spot},,nvidia,,x86,{{}}"


@pytest.fixture
def terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PLANNER_PROFILES", raising=False)
    monkeypatch.setenv("GPUHUNT_CATALOG_DIR", str(tmp_path / "catalogue"))
    return Terminal(capsys)


@LEFT_OPEN
def test_a_refreshed_list_wins_and_keeps_what_the_catalogue_does_not_say(
    terminal: Terminal, tmp_path: Path
) -> None:
    pytest.importorskip("gpuhunt")
    catalogue(
        tmp_path / "catalogue",
        "lambdalabs",
        line("gpu_8x_h100_sxm5", 24.0, 8, "H100", 80, False),
        line("gpu_1x_h100_pcie", 2.5, 1, "H100", 80, False),
        line("gpu_1x_warp9", 9.0, 1, "WARP9", 80, False),
    )
    done = terminal("prices", "refresh", "--provider", "lambda", "--format", "json")
    assert done.code == 0, done.stderr
    (written,) = done.document["written"]
    assert written["rows"] == 2
    assert written["refused"] == [
        "gpu_1x_warp9 in eu-north1: WARP9 80 GB is no name of the alias table"
    ]
    shown = terminal("show", "price", "lambda/h100-sxm-80gb", "--format", "json").document
    (price,) = shown["prices"]
    assert price["value"] == "3 USD/h"
    assert price["as_of"] == str(datetime.date.today())
    assert price["source"].startswith("gpuhunt")
    assert price["file"] == str(tmp_path / "config/planner/profiles/prices/lambda.yaml")
    assert [Path(one).parent.parent.name for one in price["beats"]] == ["profiles"]
    (sent,) = terminal("show", "price", "lambda/egress", "--format", "json").document["prices"]
    assert (sent["value"], sent["as_of"]) == ("0 USD/GB", "2026-09-20")


@LEFT_OPEN
def test_a_broken_feed_leaves_the_last_good_list(terminal: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("gpuhunt")
    folder = tmp_path / "catalogue"
    catalogue(folder, "nebius", line("h100", 3.0, 1, "H100", 80, False))
    assert terminal("prices", "refresh", "--provider", "nebius").code == 0
    file = tmp_path / "config/planner/profiles/prices/nebius.yaml"
    good = file.read_text()
    catalogue(folder, "nebius", line("h100", 0.0001, 1, "H100", 80, False))
    done = terminal("prices", "refresh", "--provider", "nebius")
    assert done.code == 7
    assert "0.0001 USD/h is no price of a h100-sxm-80gb" in done.stderr
    assert "the last good list stays" in done.stderr
    assert file.read_text() == good
    (folder / "nebius.csv").unlink()
    done = terminal("prices", "refresh", "--provider", "nebius")
    assert done.code == 7
    assert "FileNotFoundError" in done.stderr
    assert file.read_text() == good


@pytest.mark.alone
def test_a_provider_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    began_s = time.perf_counter()
    said = prices._within(lambda: time.sleep(5) or [], 0.2)
    assert said == "no answer within 0.2 s"
    assert time.perf_counter() - began_s < 2


def test_an_unknown_provider_is_told(terminal: Terminal) -> None:
    done = terminal("prices", "refresh", "--provider", "lamda")
    assert done.code == 2
    assert "did you mean lambda?" in done.stderr


def row(price: float, count: int = 1, **changes: object) -> Row:
    values: dict[str, object] = {
        "instance": "box", "location": "x", "usd_per_hour": price, "count": count,
        "name": "H100", "gigabytes": 80.0, "spot": False,
    }  # fmt: skip
    return Row(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "kept", "why"),
    [
        ([row(24.0, 8)], [("on_demand", 3.0)], ""),
        ([row(3.0), row(0.0, spot=True)], [("on_demand", 3.0)], "a price of nothing"),
        ([row(3.0), row(3.0, spot=True)], [("on_demand", 3.0)], "spot is not below on-demand"),
        ([row(3.0), row(1.2, spot=True)], [("on_demand", 3.0), ("spot", 1.2)], ""),
        ([row(0.7, 0, name="", instance="a3-highgpu-1g")], [], "no accelerator"),
        ([row(900.0)], [], "is no price of a h100-sxm-80gb"),
        ([row(3.0, gigabytes=96.0)], [], "H100 96 GB is no name of the alias table"),
    ],
)
def test_the_traps_of_catalogues_are_closed(
    rows: list[Row], kept: list[tuple[str, float]], why: str
) -> None:
    found = rents(rows, Catalogue(environ={}))
    assert [(one.kind, one.usd_per_hour) for one in found.devices] == kept
    assert any(why in one for one in found.refused) if why else not found.refused


def test_a_host_without_its_cards_is_completed() -> None:
    """0.7 for a host of two plus two at 5 are 10.7, 5.35 each."""
    host = row(0.7, 0, name="", instance="a3-highgpu-2g")
    (made,) = rents([host, row(5.0, 1, instance="")], Catalogue(environ={})).devices
    assert made.usd_per_hour == pytest.approx(5.35)


def test_show_price_traces_every_price(terminal: Terminal) -> None:
    done = terminal("show", "price", "rtx 4090")
    assert done.code == 0
    assert "0.4 USD/h" in done.stdout
    assert "vast.yaml" in done.stdout
    shown = terminal("show", "price", "gpt-oss-120b", "--format", "json").document["prices"]
    novita = [one for one in shown if one["list"] == "genai-prices:novita"]
    assert [one["value"] for one in novita] == ["0.05 USD/Mtok", "0.25 USD/Mtok"]
    assert all(one["as_of"] and one["source"] and one["file"] for one in shown)
    done = terminal("show", "price", "rtx-9999")
    assert done.code == 2
    assert "no price list has a price of 'rtx-9999'" in done.stderr
    assert terminal("show", "price", "vast").stdout.count("USD/h") >= 14
