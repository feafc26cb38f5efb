"""Catalogue: finds the card that a scenario names, reading no other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args

from planner.core.cluster import Churn, Network
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.errors import FileProblem, InvalidFileError, UsageError
from planner.core.model import ModelSpec
from planner.core.preset import Preset
from planner.core.prices import PriceList
from planner.core.quant import QuantScheme
from planner.core.spec import Card
from planner.core.trust import Regime
from planner.files.bundled import bundled
from planner.files.document import Document
from planner.files.hfconfig import read_hf_config
from planner.files.keys import did_you_mean
from planner.files.validate import build
from planner.files.yamlfile import read_yaml

C = TypeVar("C", bound=Card)
Kind = Literal["devices", "engines", "models", "quants", "networks", "churn", "prices", "workloads"]

CARDS: Mapping[Kind, type[Card]] = {
    "devices": Device,
    "engines": Engine,
    "models": ModelSpec,
    "quants": QuantScheme,
    "networks": Network,
    "churn": Churn,
    "prices": PriceList,
    "workloads": Preset,
}
THIS_HOST = "this-host"
_SINGULAR: Mapping[Kind, str] = {
    "devices": "device",
    "engines": "engine",
    "models": "model",
    "quants": "quantization",
    "networks": "network",
    "churn": "churn profile",
    "prices": "price list",
    "workloads": "workload",
}
_SUFFIX = ".yaml"
_CALIBRATE = (
    "calibrate again: planner calibrate DATA.csv --engine NAME --out FOLDER, or leave this card out"
)


def user_profiles(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's own profiles folder, where ``planner probe`` writes."""
    config = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(config) / "planner" / "profiles"


class Catalogue:
    """Cards by kind and name; folders that come first win.

    The order: a path relative to the scenario, ``--profiles`` folders, ``PLANNER_PROFILES``, the
    user's own folder, the bundled one. A card is the file ``FOLDER/KIND/NAME.yaml``. Raises
    UsageError for a folder in ``extra_dirs`` that does not exist.
    """

    def __init__(
        self,
        scenario_dir: Path = Path(),
        extra_dirs: Sequence[Path] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        absent = [str(folder) for folder in extra_dirs if not folder.is_dir()]
        if absent:
            raise UsageError(f"--profiles: {', '.join(absent)} is no directory")
        named = environ.get("PLANNER_PROFILES", "").split(os.pathsep)
        self.scenario_dir = scenario_dir
        self.folders = (
            *extra_dirs,
            *(Path(name) for name in named if name),
            user_profiles(environ),
            bundled("profiles"),
        )
        self._known: dict[tuple[Kind, str], tuple[Card, Path]] = {}

    def get(self, kind: Kind, name: str) -> tuple[Card, Path]:
        """The card of that name and the file it is from; raises InvalidFileError."""
        key = (kind, name)
        if key not in self._known:
            path = self.find(kind, name)
            if path is None:
                message, hint = self.missing(kind, name)
                raise InvalidFileError([FileProblem(f"{kind}/{name}", message)], hint)
            self._known[key] = (self._read(kind, name, path), path)
        return self._known[key]

    def get_as(self, kind: Kind, name: str, of: type[C]) -> tuple[C, Path]:
        """The same, as the type that cards of its kind have."""
        found, path = self.get(kind, name)
        assert isinstance(found, of)
        return found, path

    def find(self, kind: Kind, name: str) -> Path | None:
        """The file or model directory that ``name`` means; None where there is none."""
        try:
            if is_path(name):
                path = self.scenario_dir / Path(name).expanduser()
                return path if path.exists() else None
            paths = (folder / kind / (name + _SUFFIX) for folder in self.folders)
            return next((path for path in paths if path.is_file()), None)
        except (OSError, ValueError, RuntimeError):
            return None

    def names(self, kind: Kind) -> list[str]:
        """Names of all cards of a kind, sorted."""
        found = (path.stem for folder in self.folders for path in folder.glob(f"{kind}/*{_SUFFIX}"))
        return sorted(set(found))

    def missing(self, kind: Kind, name: str) -> tuple[str, str]:
        """Message and hint for a name that :meth:`find` does not find."""
        what = _SINGULAR[kind]
        if name == THIS_HOST:
            return f"there is no {what} {name} yet", "measure this machine first: planner probe"
        if is_path(name):
            near = did_you_mean(name.rsplit("/", 1)[-1], self.names(kind))
            hint = "a name with a / is a path that starts at the scenario"
            return f"{self.scenario_dir / name} does not exist{near}", hint
        searched = ", ".join(str(folder / kind) for folder in self.folders)
        message = f"there is no {what} {name!r}{did_you_mean(name, self.names(kind))}"
        return message, f"searched {searched}"

    def _read(self, kind: Kind, name: str, path: Path) -> Card:
        if kind == "models" and (path.is_dir() or path.name == "config.json"):
            return read_hf_config(path, name)
        document = read_yaml(path)
        stated = document.value.get("id")
        if stated not in (None, path.stem):
            message = f"the file's name is the id; rename the file or write {path.stem}"
            raise InvalidFileError([document.problem(("id",), message)])
        if kind == "engines":
            _refuse_earlier(document)
        return build(CARDS[kind], document, extra={"id": path.stem})


def _refuse_earlier(document: Document) -> None:
    """Raises InvalidFileError where error bands do not say yet what was new, in one line."""
    entries = document.value.get("calibrations")
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        bands = entry.get("error_bands") if isinstance(entry, dict) else None
        if isinstance(bands, dict) and bands.keys() & set(get_args(Regime)):
            message = "are those of an earlier planner, from before they said what was new"
            place = ("calibrations", index, "error_bands")
            raise InvalidFileError([document.problem(place, message, key=True)], _CALIBRATE)


def is_path(name: str) -> bool:
    """Whether a name in a scenario means a file rather than a card of the catalogue."""
    return "/" in name or os.sep in name or name.endswith(_SUFFIX) or name in (".", "..")
