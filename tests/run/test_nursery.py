from __future__ import annotations

import os
import time

import pytest

from planner.run.nursery import Nursery

pytestmark = pytest.mark.alone


def test_whoever_is_interrupted_while_torch_is_imported_need_not_wait_for_it() -> None:
    """Ctrl-C goes to a process group: no traceback of an import, no long goodbye."""
    one, began_s = Nursery(), time.monotonic()
    assert os.getpgid(one.pid) == one.pid
    one.close()
    assert not one.alive
    assert time.monotonic() - began_s < 5  # importing takes as long on a busy machine
