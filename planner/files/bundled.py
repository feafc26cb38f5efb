"""Where the profiles and scenarios lie that planner brings along."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import planner


def bundled(folder: Literal["profiles", "scenarios"]) -> Path:
    """The folder in an installed wheel, or in the checkout that planner runs from."""
    package = Path(planner.__file__).resolve().parent
    installed = package / "_data" / folder
    return installed if installed.is_dir() else package.parent / folder
