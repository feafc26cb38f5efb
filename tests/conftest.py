"""How hypothesis draws: no deadlines, which judge the machine; the same draws on every CI run."""

import importlib
import os
import pkgutil

from hypothesis import settings

import planner

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does


def pytest_collection_finish() -> None:
    """Constants of all modules imported so far are drawn, too: the same in every process."""
    for module in pkgutil.walk_packages(planner.__path__, "planner."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
