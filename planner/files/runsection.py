"""RunSection: what a scenario or a manifest says of the checkpoint to execute."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from planner.core.spec import Spec


class SeededModel(Spec):
    """Random weights made from a seed: for demos and timing, not for answers."""

    seed: int = Field(default=0, ge=0)
    dtype: Literal["bf16", "fp32"] = "bf16"


class Origin(Spec):
    """Where the weights of a model come from."""

    checkpoint: str | None = None
    """Directory of a Hugging Face checkpoint; a path from the scenario."""
    seeded: SeededModel | None = None
    """Or: make a random model of the scenario's shape."""

    @model_validator(mode="after")
    def _one_origin(self) -> Origin:
        if (self.checkpoint is None) == (self.seeded is None):
            raise ValueError("give either checkpoint: DIR or seeded: {seed: 0, dtype: bf16}")
        return self


class RunSection(Origin):
    """What ``planner run`` executes."""

    draft: Origin | None = None
    """Where the weights of the draft model come from."""
