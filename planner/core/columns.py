"""Columns of tables that are written to files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal["text", "whole", "real", "wholes"]
"""What a column holds; ``wholes`` is a list of whole numbers in every row."""

Columns = Mapping[str, Kind]
"""By name, in order."""
