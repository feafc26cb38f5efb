"""A run that was measured, replayed with its arrivals and lengths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.vllm_replay import latencies, mean, measured, replay, scenario

TRACES = Path(os.environ.get("PLANNER_TEST_DATA", "../shared/data")) / "traces"
RUN = TRACES / "vllm_e2e_rtx4090_llama31_8b.csv"


@pytest.mark.skipif(not RUN.exists(), reason="needs the measured run of vLLM")
def test_the_means_of_a_measured_run_of_vllm_are_met_within_5_percent() -> None:
    real, result = measured(RUN), replay(scenario(), RUN)
    simulated = latencies(result.records)
    for name, values in real.items():
        assert mean(simulated[name]) == pytest.approx(mean(values), rel=0.05), name
    assert result.metrics.completed == 300
