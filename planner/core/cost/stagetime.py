"""StageTime: what a step of a stage takes, by cause."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StageTime:
    """Seconds of one step of a stage, by cause.

    Nobody changes one, and yet it is not frozen: a search makes millions, and Python makes a frozen
    one in three times the time.
    """

    weights_s: float = 0.0
    """Reading weights."""
    compute_s: float = 0.0
    """Matrix products beyond what hides behind reading the weights."""
    kv_s: float = 0.0
    """Reading the KV cache."""
    attention_s: float = 0.0
    """Attention arithmetic beyond what hides behind reading the cache."""
    sync_s: float = 0.0
    """All-reduces between the devices of the node."""
    overhead_s: float = 0.0
    """Launches, Python, fixed cost of the step."""

    @property
    def total_s(self) -> float:
        """Seconds of the whole step."""
        return (
            self.weights_s
            + self.compute_s
            + self.kv_s
            + self.attention_s
            + self.sync_s
            + self.overhead_s
        )

    def __add__(self, other: StageTime) -> StageTime:
        return StageTime(
            self.weights_s + other.weights_s,
            self.compute_s + other.compute_s,
            self.kv_s + other.kv_s,
            self.attention_s + other.attention_s,
            self.sync_s + other.sync_s,
            self.overhead_s + other.overhead_s,
        )

    def __mul__(self, times: float) -> StageTime:
        return StageTime(
            self.weights_s * times,
            self.compute_s * times,
            self.kv_s * times,
            self.attention_s * times,
            self.sync_s * times,
            self.overhead_s * times,
        )
