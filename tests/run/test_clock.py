from __future__ import annotations

import time

import pytest
import torch

from planner.core.errors import RunError
from planner.run.clock import Clock, need

pytestmark = pytest.mark.alone


def test_a_pause_is_timed() -> None:
    assert Clock().seconds(lambda: time.sleep(0.02)) == pytest.approx(0.02, abs=0.015)
    assert Clock().median_s(lambda: time.sleep(0.001)) >= 0.001


def test_a_device_that_is_not_there_is_refused() -> None:
    need("cpu")
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with pytest.raises(RunError, match=f"torch sees {seen} CUDA devices"):
        need(f"cuda:{seen}")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_kernels_are_timed_until_they_end() -> None:
    left = torch.randn(4096, 4096, device="cuda")
    taken_s = Clock("cuda").median_s(lambda: left @ left)
    assert 1e-5 < taken_s < 1.0
