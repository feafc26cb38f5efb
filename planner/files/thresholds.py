"""Thresholds: the file in which a calibration of audits is kept."""

from __future__ import annotations

import datetime
from pathlib import Path

from pydantic import Field

from planner.core.spec import Spec
from planner.files.atomic import write_text
from planner.files.yamltext import to_yaml
from planner.receipts.record import Threshold


class StageThresholds(Spec):
    """Where audits of one stage draw the line, for each pair of numeric classes."""

    start: int = Field(ge=0)
    stop: int = Field(ge=1)
    quant: str
    thresholds: tuple[Threshold, ...]
    not_separable: tuple[str, ...] = ()
    """Weights that the noise of some honest prover hides."""


class Thresholds(Spec):
    """A calibration of audits of one model, with where it is from."""

    model: str
    source: str
    as_of: datetime.date
    sessions: int = Field(ge=1)
    """Honest sessions behind each threshold."""
    stages: tuple[StageThresholds, ...] = Field(min_length=1)


def write_thresholds(path: Path, thresholds: Thresholds) -> None:
    """Writes a calibration, whole or not at all; raises InvalidFileError."""
    write_text(path, to_yaml(thresholds.model_dump(mode="json")))
