"""Time of a stage for batches that are computed together, taken apart to be put together fast.

Products, overheads and the head depend on how many tokens and sequences a step has, attention on
each batch for itself. So the time of any mix is a sum of terms that recur.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.core.cost.batch import Batch
from planner.core.cost.compute import (
    Chip,
    attention_time,
    beside_attention,
    embedding_time,
    fixed_s,
    head_time,
    stage_time,
    step_time,
)
from planner.core.cost.stagetime import StageTime
from planner.core.model import Layer, ModelSpec
from planner.core.quant import QuantScheme


def joint_time(
    model: ModelSpec, start: int, stop: int, quant: QuantScheme, chip: Chip, *batches: Batch
) -> StageTime:
    """Seconds that layers ``[start, stop)`` take for one step of all ``batches``."""
    if len(batches) == 1:
        return stage_time(model, start, stop, quant, chip, batches[0])
    time = step_time(model, start, stop, quant, chip, *batches)
    return time + StageTime(sync_s=_handing_s(chip))


def _handing_s(chip: Chip) -> float:
    """Time of devices with layers of their own to hand a step on (s)."""
    return (chip.count - 1) * chip.calibration.sync_s if chip.count > chip.sharing else 0.0


@dataclass(slots=True)
class Terms:
    """The terms of ``joint_time`` of one stage; each is asked of the cost model once."""

    model: ModelSpec
    start: int
    stop: int
    quant: QuantScheme
    chip: Chip
    _tokens_s: dict[float, float] = field(default_factory=dict)
    """Layers by tokens, for a single sequence."""
    _sequences_s: dict[float, float] = field(default_factory=dict)
    """What more sequences add to that, and everything beside the layers."""
    _prompts_s: dict[tuple[int, int], float] = field(default_factory=dict)
    """Attention of pieces of prompts."""
    _lonely_s: dict[tuple[float, float, bool], float] = field(default_factory=dict)
    """Whole steps of a piece of a prompt with nothing beside it."""
    runs: tuple[tuple[Layer, int], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = self.model.runs(self.start, self.stop)

    def alone_s(self, batch: Batch) -> float:
        """A step of one batch with nothing beside it (s)."""
        stage = self.model, self.start, self.stop, self.quant, self.chip
        return stage_time(*stage, batch).total_s

    def lonely_prompt_s(self, tokens: float, cached: float, *, silent: bool = False) -> float:
        """A step of one piece of a prompt with nothing beside it (s)."""
        key = (tokens, cached, silent)
        found = self._lonely_s.get(key)
        if found is None:
            batch = Batch.prefill(tokens, cached, silent=silent)
            found = self._lonely_s[key] = self.alone_s(batch)
        return found

    def products_s(self, tokens: float, sequences: float) -> float:
        """Everything but attention, for so many tokens of so many sequences (s)."""
        found = self._tokens_s.get(tokens)
        if found is None:
            found = self._tokens_s[tokens] = self._layers_s(tokens, 1)
        more = self._sequences_s.get(sequences)
        if more is None:
            more = self._layers_s(1, sequences) - self._layers_s(1, 1) + self._beside_s(sequences)
            self._sequences_s[sequences] = more
        return found + more

    def _layers_s(self, tokens: float, sequences: float) -> float:
        """What the layers take but for attention, and the embedding before them (s)."""
        model, quant, chip = self.model, self.quant, self.chip
        total_s = 0.0
        for layer, times in self.runs:
            time = beside_attention(model, layer, quant, chip, tokens, sequences)
            total_s += time.total_s * times
        if self.start == 0:
            total_s += embedding_time(model, quant, chip, tokens).total_s
        return total_s

    def _beside_s(self, sequences: float) -> float:
        """What a step takes beside its layers (s)."""
        model, chip = self.model, self.chip
        batch = Batch("prefill", sequences, 1, 0)
        alone = self.start == 0 and self.stop == model.num_hidden_layers
        total_s = fixed_s(chip.calibration, batch, alone=alone) + _handing_s(chip)
        if self.stop == model.num_hidden_layers:
            total_s += head_time(model, self.quant, chip, batch).total_s
        return total_s

    def prompt_s(self, tokens: int, cached: int) -> float:
        """Attention of a piece of a prompt (s)."""
        key = (tokens, cached)
        found = self._prompts_s.get(key)
        if found is None:
            found = self._prompts_s[key] = self._attention_s(Batch.prefill(tokens, cached))
        return found

    def decoding_s(self, sequences: float, context: float) -> float:
        """Attention of sequences that decode beside a piece of a prompt (s)."""
        return self._attention_s(Batch.decode(sequences, context))

    def _attention_s(self, batch: Batch) -> float:
        total_s = 0.0
        for layer, times in self.runs:
            time = attention_time(layer, self.quant, self.chip, batch, mixed=True)
            total_s += (time.kv_s + time.attention_s) * times
        return total_s
