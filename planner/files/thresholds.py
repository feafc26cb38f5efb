"""Thresholds: the file in which a calibration of audits is kept."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from planner.core.plan import Plan, Stage
from planner.core.spec import Spec
from planner.files.atomic import write_text
from planner.files.validate import build
from planner.files.yamlfile import read_yaml
from planner.files.yamltext import to_yaml
from planner.receipts.record import NumericClass, Threshold, numeric_class

if TYPE_CHECKING:
    from planner.run.separation import Separation


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


def plan_thresholds(
    plan: Plan, measured: Sequence[Sequence[Separation]]
) -> tuple[StageThresholds, ...]:
    """The bounds of every stage of a plan, from what was measured of each pipeline."""
    return tuple(
        _stage(stage, [one for one in found if one.stage == index])
        for pipeline, found in zip(plan.pipelines, measured, strict=True)
        for index, stage in enumerate(pipeline.stages)
    )


def _stage(stage: Stage, measured: Sequence[Separation]) -> StageThresholds:
    """The bounds of a stage for every class of provers that can be told from cheaper ones."""
    return StageThresholds(
        start=stage.start,
        stop=stage.stop,
        quant=stage.quant,
        thresholds=tuple(
            Threshold(
                prover=NumericClass(
                    dtype=one.pair.dtype, quant=stage.quant, kernel=one.pair.kernel
                ),
                verifier=numeric_class(stage),
                accept=one.accept,
                reject=one.reject,
                token_gap=one.token_gap or 0.0,
            )
            for one in measured
            if one.reject is not None
        ),
        not_separable=tuple(sorted({how for one in measured for how in one.not_separable})),
    )


def read_thresholds(path: Path) -> Thresholds:
    """The calibration at ``path``; raises InvalidFileError."""
    return build(Thresholds, read_yaml(path))


def write_thresholds(path: Path, thresholds: Thresholds) -> None:
    """Writes a calibration, whole or not at all; raises InvalidFileError."""
    write_text(path, to_yaml(thresholds.model_dump(mode="json")))
