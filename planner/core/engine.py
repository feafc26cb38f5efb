"""Engine: what a piece of software makes of a device."""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import cached_property
from operator import itemgetter
from typing import Annotated, Literal

from pydantic import Field, field_validator

from planner.core.device import Device
from planner.core.spec import Card, Spec
from planner.core.speculation import Drafting
from planner.core.trust import Bands, ErrorBand, Measured, New, Trust, at_least, narrower
from planner.core.units import Bytes, BytesPerSecond, Count, Fraction, Positive, Seconds, Watts

Split = Literal["tensor", "layer"]
"""How devices of one node share a stage: every layer together, or each its own layers."""

Curve = tuple[tuple[Positive, Positive], ...]
"""Points (tokens in the step, efficiency), tokens rising."""


_tokens = itemgetter(0)


class Efficiency(Spec):
    """Which share of a device's peaks the kernels of one number scheme reach."""

    bandwidth: Positive
    """Share of the peak memory bandwidth that weight reads reach."""
    compute: Positive | Curve
    """Share of the peak FLOP/s that matrix products reach, constant or by tokens in the step."""
    flop_per_joule: Positive | None = None
    """Work that the board power pays for: chips that reach their power limit slow down."""
    experts: Positive = 1.0
    """Share of ``compute`` that grouped products of routed experts reach."""
    layer_overhead_s: Seconds = Field(default=0.0, alias="layer_overhead")
    """Overhead per layer and step that these kernels add to the calibration's own."""

    @field_validator("compute")
    @classmethod
    def _tokens_rise(cls, value: float | Curve) -> float | Curve:
        if isinstance(value, tuple):
            tokens = [point[0] for point in value]
            if not tokens or tokens != sorted(set(tokens)):
                raise ValueError("points of a curve must have rising token counts")
        return value

    def compute_at(self, tokens: float) -> float:
        """Share of the peak FLOP/s at ``tokens`` in the step, linear in their logarithm."""
        if not isinstance(self.compute, tuple):
            return self.compute
        curve = self.compute
        index = bisect_left(curve, tokens, key=_tokens)
        if index == 0:
            return curve[0][1]
        if index == len(curve):
            return curve[-1][1]
        (x0, y0), (x1, y1) = curve[index - 1], curve[index]
        share = math.log(tokens / x0) / math.log(x1 / x0)
        return y0 + share * (y1 - y0)


class Calibration(Spec):
    """Constants of one engine on one class of devices."""

    device: str = ""
    """Device id this holds for; empty for the whole class."""
    device_class: str = ""
    """Device class this holds for; empty for any."""
    architecture: str = ""
    """Chip generation this holds for; empty for any."""
    efficiency: dict[str, Efficiency] = Field(min_length=1)
    """By quantization id, by compute dtype, or ``*`` for all others."""
    kv_bandwidth: Positive = 0.7
    """Share of the peak bandwidth that reading the KV cache reaches."""
    mixed_kv_bandwidth: Positive | None = None
    """The same for decoding sequences beside a piece of a prompt, in one step; as ``kv_bandwidth``
    where absent. Kernels that take both at once read less evenly."""
    attention_compute: Positive = 0.3
    """Share of the peak FLOP/s that attention scores and sums reach."""
    score_bytes: Bytes = Field(default=0.0, alias="scores")
    """What attention to a prompt writes to memory and reads again for each pair and head, where
    its scores do not stay in the chip; 0 with fused kernels."""
    unpack_flops: Annotated[float, Field(ge=0)] = 0.0
    """Arithmetic that it takes to unpack a weight of fewer bits to the 8 that it is multiplied in,
    at the FP32 rate of the device."""
    scale_flops: Annotated[float, Field(ge=0)] = 0.0
    """Arithmetic of vector units for each sum of integer products over a block of weights with one
    scale: it is converted, scaled and added to the others, at the FP32 rate of the device."""
    fill_width: Annotated[float, Field(ge=0)] = 0.0
    """Hidden width of a model at which products reach half of ``compute``: smaller ones leave
    units of the device without work."""
    layer_overhead_s: Seconds = Field(default=0.0, alias="layer_overhead")
    """Launches and Python per layer and step."""
    expert_overhead_s: Seconds = Field(default=0.0, alias="expert_overhead")
    """What a layer with routed experts takes more: choosing, sorting and gathering."""
    step_overhead_s: Seconds = Field(default=0.0, alias="step_overhead")
    """Fixed time of a stage per step."""
    wake_s: Seconds = Field(default=0.0, alias="wake")
    """What a step takes more where the stage waits for others between its steps: a processor
    that has slept comes back slower, and finds less in its caches."""
    sequence_overhead_s: Seconds = Field(default=0.0, alias="sequence_overhead")
    """Time of a stage per sequence in the step."""
    sequence_layer_overhead_s: Seconds = Field(default=0.0, alias="sequence_layer_overhead")
    """Time per sequence and layer, where an engine attends sequence by sequence."""
    sync_s: Seconds = Field(default=0.0, alias="sync")
    """Latency of one all-reduce between the devices of a node (two per layer)."""
    sync_bandwidth: Positive = 0.3
    """Share of the interconnect's bandwidth that all-reduces of activations reach."""
    expert_tile: Annotated[float, Field(ge=0)] = 0.0
    """Rows to which grouped products pad the tokens of an expert; 0 for none."""
    admission_steps: Annotated[float, Field(ge=0)] | None = None
    """As the engine's, where a platform is run with another setting."""
    tier: Literal[0, 1, 2] = 0
    """0 datasheet and defaults, 1 fitted to timed steps, 2 to kernel points of our runtime."""
    error_band: ErrorBand | None = None
    """Of all predictions, where they are not told apart."""
    error_bands: dict[New, Bands] = Field(default_factory=dict)
    """By what of a prediction was not measured, for prompts and for the tokens after them."""
    measured_in: tuple[str, ...] = ()
    """Quantization ids that tier and error band hold for; any where empty."""
    measured_of: tuple[str, ...] = ()
    """Model ids that the error band holds for; any where empty."""
    source: str = Field(min_length=1)

    def for_quant(self, quant_id: str, compute_dtype: str) -> Efficiency:
        """Efficiency for a scheme: its own, its compute dtype's, or the default."""
        for key in (quant_id, compute_dtype, "*"):
            if key in self.efficiency:
                return self.efficiency[key]
        known = ", ".join(self.efficiency)
        raise ValueError(f"no efficiency for {quant_id} ({compute_dtype}); there is: {known}")

    def match(self, device: Device) -> int:
        """How specifically this fits a device: 0 not at all, higher is closer."""
        wanted = (
            (self.device, device.id, 4),
            (self.device_class, device.device_class, 1),
            (self.architecture, device.architecture, 2),
        )
        if any(mine and mine != theirs for mine, theirs, _ in wanted):
            return 0
        return 1 + sum(weight for mine, _, weight in wanted if mine)


class PowerLimit(Spec):
    """What devices of a kind were held to where they were measured."""

    device: str
    """Device id."""
    count: Count = 1
    """Devices of the box."""
    limit_w: Watts = Field(alias="limit", gt=0)
    """Power limit of each, that of the slowest where they differ."""


class MeasuredAs(Spec):
    """Which rows of benchmark tables are about an engine."""

    backend: str
    """Text in the name that tables give the engine, whatever its case."""
    but_not: str | tuple[str, ...] = ()
    """Text of names that are another engine's."""
    since: str = ""
    """Earliest date of a row, as the tables write it: year first."""
    until: str = ""
    """Last date of a row."""
    versions: tuple[str, ...] = ()
    """What the version of a row starts with; any where empty."""
    but_not_versions: tuple[str, ...] = ()
    """What the version of another release starts with."""
    power_limits: tuple[PowerLimit, ...] = ()
    """Limits more than an eighth off the datasheet's, which logs of the runs tell and tables do
    not."""

    def as_run(self, device: Device, count: int) -> Device:
        """A device with the power limit that it had in a box of so many."""
        for one in self.power_limits:
            if (one.device, one.count) == (device.id, count):
                return device.model_copy(update={"tdp_w": one.limit_w})
        return device


class Engine(Card):
    """A serving engine at one version: its calibrations and its habits."""

    name: str
    version: str
    """Version, build or date of the software that was measured."""
    measured_as: MeasuredAs | None = None
    measured: Measured | None = None
    """What the constants were fitted to, where they were."""
    release_of: str = ""
    """Engine id of which this is another release: a fit takes both to be alike but for habits."""
    calibrations: tuple[Calibration, ...] = Field(min_length=1)
    hop_s: Seconds = Field(default=0.0, alias="hop")
    """Software time of one hop: encode, system calls, decode (relays included)."""
    own_hop_s: Seconds | None = Field(default=None, alias="own_hop")
    """The same between coordinator and a stage on its own node; as any hop where absent."""
    coordinator_step_s: Seconds = Field(default=0.0, alias="coordinator_step")
    """Scheduling and sampling at the coordinator per step of a batch."""
    takeover_s: Seconds = Field(default=0.0, alias="takeover")
    """From noticing a lost stage until a node that has the weights gets its stored inputs: the
    choice of the node, and connecting the pipeline anew."""
    load_s: Seconds = Field(default=0.0, alias="load")
    """What a process that has the weights on disk takes before it serves a stage, however small:
    imports, memory, first calls."""
    load_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="load_rate", gt=0)
    """Rate at which weights are read from disk and brought into their form; none is at once."""
    warms_up: bool = False
    """Whether a stage makes a step of every size before it serves, as planner's runtime does."""
    request_s: Seconds = Field(default=0.0, alias="request")
    """Time before a request can be scheduled: parse, tokenise, enqueue."""
    frame_bytes: Bytes = Field(default=64.0, alias="frame")
    """Header bytes of one message between stages."""
    memory_fraction: Fraction = 0.9
    """Share of a device's memory the engine may use."""
    memory_reserve_bytes: Bytes = Field(default=0.0, alias="memory_reserve")
    """Memory of a device that the runtime itself takes (context, workspace)."""
    max_num_seqs: Count = 256
    """Most sequences a pipeline decodes together."""
    kv_block_tokens: Count = 16
    """KV cache is handed out in blocks of this many tokens."""
    split: Split = "tensor"
    """How devices of one node share a stage where nothing else is chosen."""
    other_splits: tuple[Split, ...] = ()
    """Further ways that the planner may choose from."""
    prefill_chunk: Count | None = None
    """Tokens of a prompt that are computed at a time; all of them where it is absent."""
    chunks_overlap: bool = True
    """Whether the stages of a pipeline compute different chunks of a prompt at once."""
    chunks_at_once: Count | None = None
    """Chunks of a prompt that devices with layers of their own compute at a time: the engine keeps
    as many copies of what they hand over. All where it is absent."""
    launches: Count | None = None
    """Kernels of a layer of a prompt's chunk, where one process launches for all devices: with more
    than a device's queue takes (1024) it halts, and the next device waits."""
    fused_attention: bool = True
    """Whether scores stay in the chip (FlashAttention); calibrations say what they cost if not."""
    widens_above: Count | None = None
    """Tokens of a step above which narrow weights are widened to 16 bits in memory and multiplied
    there, on chips that could multiply them as they are; never where it is absent."""
    scheduler: Literal["runtime", "vllm"] = "runtime"
    """Whose rules say what a pipeline does next: planner's own runtime's, or vLLM's."""
    max_num_batched_tokens: Count = 2048
    """Tokens of one step, where prompts are computed in pieces beside decoding sequences (vllm)."""
    kv_skew: Fraction = 0.0
    """How far the attention of uneven sequences leans towards that of as many as long as the
    longest: 0 counts cached tokens, 1 the longest sequence."""
    drafting: tuple[Drafting, ...] = ()
    """How often drafts turned out right in runs, for scenarios that do not say."""
    prefix_cache: bool = True
    """Whether KV blocks that nobody holds are used again for the same prefix (vllm)."""
    admission_steps: Annotated[float, Field(ge=0)] = 0.5
    """Tokens that others get before a newcomer's first one comes to the client: steps that run
    when it arrives, intervals at which requests are looked for and answers are sent."""
    known_admission_steps: dict[str, float] = Field(default_factory=dict)
    """The same by chip generation, where the settings are known that a platform is run with: a fit
    begins there."""
    tuned_kernels: bool = False
    """Whether products and attention are those of libraries tuned for each chip (cuBLAS, CUTLASS,
    FlashAttention): a fit begins at what these reach."""
    first_wave: Fraction = 0.1
    """Share of requests that come all at once, as the first of a benchmark client's ten per user:
    each then waits for half of the others' prompts."""

    def acceptance(self, model_id: str, draft_id: str) -> float | None:
        """Measured chance that a draft is right for a model; None where no run told."""
        found = (one for one in self.drafting if (one.model, one.draft) == (model_id, draft_id))
        return next((one.acceptance for one in found), None)

    def knowing(self, found: Drafting) -> Engine:
        """The same engine with what a run found of a model's drafts, in place of what was known."""
        pair = (found.model, found.draft)
        others = (one for one in self.drafting if (one.model, one.draft) != pair)
        return self.model_copy(update={"drafting": (*others, found)})

    def calibration(self, device: Device) -> Calibration:
        """The closest calibration for a device; raises ValueError where none fits."""
        known = self._found.get(device.id)
        if known is not None and known[0] is device:
            return known[1]
        best = max(self.calibrations, key=lambda entry: entry.match(device))
        if best.match(device) == 0:
            raise ValueError(
                f"engine {self.id} has no calibration for {device.id} "
                f"(class {device.device_class or 'none'})"
            )
        self._found[device.id] = device, best
        return best

    @property
    def passes_chunks(self) -> bool:
        """Whether each chunk of a prompt goes down a pipeline as a job of its own.

        Devices with layers of their own pass chunks on within their node instead.
        """
        layered = "layer" in (self.split, *self.other_splits)
        return self.prefill_chunk is not None and self.chunks_overlap and not layered

    def trust(self, device: Device, model_id: str, quant_id: str) -> Trust:
        """What a prediction rests on; raises ValueError where no calibration fits the device."""
        entry, known = self.calibration(device), self.measured
        foreign = bool(entry.measured_in) and quant_id not in entry.measured_in
        tier = 0 if foreign else entry.tier
        if foreign or not (entry.error_band or entry.error_bands):
            if known is None:
                return Trust(tier)
            return Trust(tier, "class", at_least(known.elsewhere, self._of_measured("both")))
        if entry.measured_of and model_id not in entry.measured_of:
            return Trust(tier, "model", self._of_models)
        if known is None or not entry.error_bands:
            return Trust(tier, whole=entry.error_band)
        has_device, has_model = device.id in known.devices, model_id in known.models
        if has_device and has_model:
            return Trust(tier, None, narrower(entry.error_bands))
        new: New = "model" if has_device else "device" if has_model else "both"
        bands = entry.error_bands.get(new, {})
        return Trust(tier, new, bands if tier else at_least(bands, self._of_measured(new)))

    def _of_measured(self, new: New) -> list[Bands]:
        """The bands of each class of devices with rows under this engine."""
        found = {
            entry.device_class: entry.error_bands[new]
            for entry in self.calibrations
            if entry.tier and new in entry.error_bands
        }
        return list(found.values())

    @property
    def _of_models(self) -> Bands:
        """Error where the model is new, of the class where it is largest."""
        known = [entry.error_bands["model"] for entry in self.calibrations if entry.error_bands]
        return max(known, key=lambda bands: max(one.p90 for one in bands.values()), default={})

    @cached_property
    def _found(self) -> dict[str, tuple[Device, Calibration]]:
        """What was asked for, and the answer."""
        return {}
