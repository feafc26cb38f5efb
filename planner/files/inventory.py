"""Inventory: where the nodes of a deployment are and which keys they have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from planner.core.errors import FileProblem
from planner.core.spec import Spec
from planner.files.atomic import write_text
from planner.files.document import refuse
from planner.files.keys import did_you_mean
from planner.files.validate import build
from planner.files.yamlfile import read_yaml
from planner.files.yamltext import to_yaml

_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})"
)
_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_HEADER = """\
# Where the nodes of this deployment are. Made by `planner node init`; addresses may be edited,
# keys are fingerprints of the nodes' public keys (SHA-256) and belong to their certificates.
"""


class NodeEntry(Spec):
    """One node."""

    address: str
    """HOST:PORT at which its daemon listens."""
    key: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of its public key; absent only for nodes on this host without keys."""

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        split_address(value)
        return value

    @property
    def host(self) -> str:
        """Name or number of its host."""
        return split_address(self.address)[0]

    @property
    def port(self) -> int:
        """Port of its daemon."""
        return split_address(self.address)[1]


class Inventory(Spec):
    """All nodes, and where the coordinator's keys are."""

    keys: str | None = None
    """Directory with the coordinator's own keys, from the inventory's; none without TLS."""
    nodes: dict[Annotated[str, Field(pattern=_ID)], NodeEntry] = Field(min_length=1)


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``; raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"{text!r} is no HOST:PORT, such as 10.0.0.2:7431 or [fd00::2]:7431")
    return found["six"] or found["host"], int(found["port"])


def read_inventory(path: Path) -> Inventory:
    """The inventory at ``path``; raises InvalidFileError."""
    return build(Inventory, read_yaml(path))


def write_inventory(path: Path, inventory: Inventory) -> None:
    """Writes an inventory whole or not at all; raises InvalidFileError."""
    write_text(path, _HEADER + to_yaml(inventory.model_dump(mode="json", exclude_none=True)))


def check_nodes(inventory: Inventory, path: Path, needed: Iterable[str]) -> None:
    """Raises InvalidFileError where nodes of a plan are not in the inventory."""
    refuse(
        [
            FileProblem(
                str(path), f"lacks node {name}{did_you_mean(name, inventory.nodes)}", "nodes"
            )
            for name in sorted(set(needed) - set(inventory.nodes))
        ],
        "add its address and key; planner node init writes both",
    )
