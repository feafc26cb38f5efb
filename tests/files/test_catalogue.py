from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner.core.device import Device
from planner.core.errors import InvalidFileError
from planner.core.model import ModelSpec
from planner.files.bundled import bundled
from planner.files.catalogue import CARDS, Catalogue, user_profiles
from tests.files.world import write_cards


def put(folder: Path, name: str, memory: str) -> Path:
    """A device card with that much memory."""
    path = folder / "devices" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"name: {name}\ndevice_class: test\nmemory: {memory}\nmemory_bandwidth: 1 GB/s\n"
        "compute: {bf16: 1 TFLOP/s}\nsource: made up\nas_of: 2026-01-01\n"
    )
    return path


def test_folders_that_come_first_win(tmp_path: Path) -> None:
    flag, first, second = tmp_path / "flag", tmp_path / "first", tmp_path / "second"
    environ = {
        "PLANNER_PROFILES": os.pathsep.join([str(first), str(second)]),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    user = tmp_path / "config" / "planner" / "profiles"
    assert user_profiles(environ) == user
    flag.mkdir()
    won = []
    for folder in (user, second, first, flag):
        expected = put(folder, "rtx-4090", "1 GB")
        card, path = Catalogue(tmp_path, [flag], environ).get("devices", "rtx-4090")
        assert isinstance(card, Device)
        assert card.id == "rtx-4090"
        won.append(path == expected)
    assert won == [True] * 4
    assert Catalogue(tmp_path, [], {}).find("devices", "rtx-4090") == (
        bundled("profiles") / "devices" / "rtx-4090.yaml"
    )


def test_a_path_starts_at_the_scenario(tmp_path: Path) -> None:
    put(tmp_path / "mine", "own", "2 GB")
    catalogue = Catalogue(tmp_path / "mine", [], {})
    card, path = catalogue.get("devices", "devices/own.yaml")
    assert isinstance(card, Device)
    assert (card.id, card.memory_bytes) == ("own", 2e9)
    assert path == tmp_path / "mine" / "devices" / "own.yaml"
    assert catalogue.get("devices", str(path))[0] == card
    with pytest.raises(InvalidFileError, match="does not exist; did you mean rtx-4090"):
        catalogue.get("devices", "./rtx-4090")


def test_only_the_named_card_is_read(tmp_path: Path) -> None:
    put(tmp_path, "good", "1 GB")
    (tmp_path / "devices" / "broken.yaml").write_text("{{{")
    assert Catalogue(tmp_path, [tmp_path], {}).get("devices", "good")[0].id == "good"


def test_a_missing_card_is_told_with_what_was_meant() -> None:
    with pytest.raises(InvalidFileError) as caught:
        Catalogue().get("devices", "RTX4090")
    assert "there is no device 'RTX4090'; did you mean rtx-4090?" in caught.value.message
    assert str(bundled("profiles") / "devices") in caught.value.hint


@pytest.mark.parametrize("kind", ["devices", "engines"])
def test_this_host_is_asked_for_with_probe(kind: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        Catalogue().get(kind, "this-host")  # type: ignore[arg-type]
    assert "planner probe" in caught.value.hint


def test_the_file_name_is_the_id(tmp_path: Path) -> None:
    path = put(tmp_path, "own", "1 GB")
    path.write_text(path.read_text() + "id: own\n")
    assert Catalogue(tmp_path, [tmp_path], {}).get("devices", "own")[0].id == "own"
    path.write_text(path.read_text().replace("id: own", "id: other"))
    with pytest.raises(InvalidFileError, match=r"own.yaml:8:5: id: the file's name is the id"):
        Catalogue(tmp_path, [tmp_path], {}).get("devices", "own")


def test_names_are_those_of_all_folders(tmp_path: Path) -> None:
    write_cards(tmp_path)
    names = Catalogue(tmp_path, [tmp_path], {}).names("devices")
    assert {"chip", "odd", "rtx-4090"} <= set(names)
    assert names == sorted(names)


def test_a_model_directory_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100,'
        ' "num_attention_heads": 4, "intermediate_size": 128, "max_position_embeddings": 512}'
    )
    card, _ = Catalogue(tmp_path, [], {}).get("models", "./net")
    assert isinstance(card, ModelSpec)
    assert (card.id, card.source, card.num_key_value_heads) == ("net", "./net/config.json", 4)
    assert Catalogue(tmp_path, [], {}).get("models", "net/config.json")[0].id == "net"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidFileError, match=r"config.json: does not exist"):
        Catalogue(tmp_path, [], {}).get("models", "./empty")


@pytest.mark.parametrize("kind", list(CARDS))
def test_every_bundled_card_is_read(kind: str) -> None:
    catalogue = Catalogue(Path(), [], {})
    for name in catalogue.names(kind):  # type: ignore[arg-type]
        card, _ = catalogue.get(kind, name)  # type: ignore[arg-type]
        assert card.id == name


def test_an_engine_card_with_bands_of_an_earlier_planner_is_refused_in_a_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "engines" / "mine.yaml"
    path.parent.mkdir()
    band = "{median: 0.1, p90: 0.4, source: here}"
    entry = f"  - error_bands: {{prompt: {band}, token: {band}}}\n"
    path.write_text(f"name: mine\ncalibrations:\n{entry}{entry}")
    with pytest.raises(InvalidFileError, match=r"mine\.yaml:3:5: .*earlier planner") as caught:
        Catalogue(tmp_path, [tmp_path]).get("engines", "mine")
    assert len(str(caught.value).splitlines()) == 1
    assert "calibrate again" in caught.value.hint
