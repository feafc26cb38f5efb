"""A model directory with a Hugging Face ``config.json``."""

from __future__ import annotations

from pathlib import Path

from planner.core.hfconfig import model_of
from planner.core.model import ModelSpec
from planner.run.config import read_json

_HINT = "a model directory is one with a Hugging Face config.json"


def read_hf_config(path: Path, name: str) -> ModelSpec:
    """The model whose ``config.json``, or the directory it lies in, is ``path``.

    ``name`` is how the scenario refers to it. Raises InvalidFileError for what cannot be read and
    for an architecture whose parameters planner does not know how to count.
    """
    file = path / "config.json" if path.is_dir() else path
    source = f"{name.removesuffix('/config.json')}/config.json"
    return model_of(
        read_json(file, _HINT), str(file), file.parent.resolve().name or "model", source
    )
