"""What a fit of whole engines may turn: few knobs, each of which moves many constants together.

The logarithm of a constant is a sum: what is usual for such a constant, and how far the number
scheme, the engine, the class of devices and the generation of chips are from that. A generation
that was measured in one class of devices so says something of it in every other class, and what
no row tells stays at what is usual. In statistics this is a mixed model (Henderson, 1975).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.core.cost.measured import MeasuredSpeed
from planner.core.device import Device
from planner.core.engine import Calibration, Curve, Efficiency, Engine
from planner.core.quant import QuantScheme
from planner.fit.bands import OF_PROMPTS
from planner.fit.slope import exp

Knob = tuple[str, str, str]
"""A constant, the kind of thing that shifts it (a key of ``Usual.shifts`` or empty), which one."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What a constant usually is, before anything was measured."""

    value: float
    spread: float
    """Standard deviation of its logarithm, at first."""
    low: float
    high: float
    shifts: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation of the logarithm over schemes, engines, their releases, classes, chips,
    their makers, and what one of these does on another (a release on a maker's chips as a backend,
    the build of a scheme's kernels in a release, an engine on chips as a platform)."""


USUAL: Mapping[str, Usual] = {
    "bandwidth": Usual(
        0.75,
        0.2,
        0.05,
        0.97,
        {"scheme": 0.15, "class": 0.2, "chips": 0.1, "release": 0.15},
    ),
    "compute": Usual(
        0.4,
        0.4,
        0.005,
        1.5,
        {"scheme": 0.4, "class": 0.5, "chips": 0.4, "backend": 0.4, "build": 0.4},
    ),
    "flop_per_joule": Usual(4e11, 0.7, 1e9, 1e14, {"scheme": 0.4, "chips": 0.4, "backend": 0.4}),
    "experts": Usual(0.5, 0.5, 0.02, 1.0, {"engine": 0.5, "scheme": 0.5}),
    "kv_bandwidth": Usual(0.6, 0.4, 0.03, 1.0, {"class": 0.4, "engine": 0.3}),
    "attention_compute": Usual(0.3, 0.5, 0.01, 0.8, {"class": 0.5}),
    "unpack_flops": Usual(5.0, 0.5, 0.1, 50.0, {"maker": 0.5}),
    "scale_flops": Usual(25.0, 0.5, 0.5, 500.0),
    "fill_width": Usual(1000.0, 0.7, 10.0, 20000.0, {}),
    "score_bytes": Usual(24.0, 0.5, 1.0, 100.0, {"class": 0.3}),
    "layer_overhead_s": Usual(
        4e-5, 0.5, 1e-7, 5e-3, {"engine": 0.5, "class": 0.5, "chips": 0.3, "release": 0.5}
    ),
    "expert_overhead_s": Usual(2e-5, 0.7, 1e-7, 5e-3, {"engine": 0.5}),
    "step_overhead_s": Usual(3e-4, 0.7, 1e-6, 2e-2, {"engine": 0.5}),
    "sequence_overhead_s": Usual(5e-6, 1.0, 1e-8, 1e-3, {"engine": 0.5}),
    "sync_s": Usual(1.5e-5, 0.7, 1e-7, 5e-3, {"engine": 0.7}),
    "sync_bandwidth": Usual(0.25, 0.4, 0.01, 1.0, {"engine": 0.4}),
    "expert_tile": Usual(32.0, 0.5, 1.0, 256.0),
    "request_s": Usual(0.02, 0.7, 1e-4, 0.5, {"engine": 0.7, "release": 0.5}),
    "admission_steps": Usual(
        3.0, 1.0, 0.2, 120.0, {"engine": 0.7, "release": 0.7, "platform": 0.5}
    ),
    "first_wave": Usual(0.1, 0.3, 0.01, 1.0, {"engine": 0.3}),
}
"""Where a fit starts and how far it may go: no measurements, wide enough that a few rows move
them. What is known of an engine is in its profile."""

TUNED: Mapping[str, Usual] = {
    **USUAL,
    "bandwidth": Usual(0.85, 0.1, 0.05, 0.97, {"scheme": 0.1, "chips": 0.05}),
    "compute": Usual(0.55, 0.05, 0.005, 1.0, {"scheme": 0.2, "class": 0.2, "chips": 0.2}),
    "flop_per_joule": Usual(5e12, 0.0, 1e9, 1e14),
    "kv_bandwidth": Usual(0.85, 0.2, 0.03, 1.0),
    "attention_compute": Usual(0.6, 0.3, 0.01, 0.8),
    "layer_overhead_s": Usual(4e-5, 0.5, 1e-7, 5e-3, {"engine": 0.5}),
    "sync_bandwidth": Usual(0.2, 0.03, 0.01, 1.0),
    "request_s": Usual(0.02, 0.3, 1e-4, 0.5, {"engine": 0.4}),
    "admission_steps": Usual(2.0, 0.3, 0.2, 120.0, {"engine": 0.5, "platform": 0.1}),
}
"""The same for engines whose kernels are libraries tuned for each chip (cuBLAS, CUTLASS,
FlashAttention, FlashInfer). Engines and releases share what chips reach. What a share of the peak
is begins at what Helix's engine reached on small chips and hardly moves but by class, generation
and number format: classes and chips that no row is of stay there. It is never more than the peak;
elsewhere a card may say less than a chip reaches when it boosts. What is never turned has no
spread: a joule pays for as much as serving runs said when it was."""

_OF_SCHEMES = ("bandwidth", "compute", "flop_per_joule", "experts")
_OF_ENGINES = ("request_s", "admission_steps", "first_wave")
_WIDE = ("bf16", "fp16", "fp32")


def scheme_key(quant: QuantScheme) -> str:
    """The key of a scheme's efficiency: weights that are widened first have their own kernels."""
    if quant.compute_dtype not in _WIDE:
        return quant.compute_dtype
    return quant.id if quant.weight_bits < 16 else "*"


def usual(tuned: bool) -> Mapping[str, Usual]:
    """What constants usually are, of engines with ``tuned`` kernels or others."""
    return TUNED if tuned else USUAL


@dataclass(frozen=True, slots=True)
class Place:
    """Where a calibration stands: what its constants depend on."""

    engine: str
    device_class: str
    chips: str
    family: str = ""
    """Engine id that stands for all its releases."""
    fused: bool = True
    """Whether the scores of attention stay in the chip there."""
    tuned: bool = False
    """Whether kernels are libraries tuned for each chip."""
    admission_steps: float | None = None
    """What the settings say with which the engine is run there, where they are known."""

    @classmethod
    def of(cls, engine: Engine, device: Device) -> Place:
        """The place of a device under an engine."""
        family = engine.release_of or engine.id
        return cls(
            engine.id,
            device.device_class,
            device.architecture,
            family,
            engine.fused_attention,
            engine.tuned_kernels,
            engine.known_admission_steps.get(device.architecture),
        )

    @classmethod
    def whole_class(cls, engine: Engine, device_class: str) -> Place:
        """Any device of a class under an engine, or of any class where that is empty."""
        family = engine.release_of or engine.id
        fused, tuned = engine.fused_attention, engine.tuned_kernels
        return cls(engine.id, device_class, "", family, fused, tuned)

    @property
    def usual(self) -> Mapping[str, Usual]:
        """What constants usually are here."""
        if self.admission_steps is None:
            return usual(self.tuned)
        steps = replace(usual(self.tuned)["admission_steps"], value=self.admission_steps)
        return {**usual(self.tuned), "admission_steps": steps}

    def shifts(self, constant: str, scheme: str = "*") -> list[Knob]:
        """The knobs on which a constant depends here."""
        release = self.engine if self.engine != self.family else ""
        maker = self.device_class.split("_")[0]
        marks = {
            "scheme": "" if scheme == "*" else scheme,
            "engine": self.family,
            "release": release,
            "platform": f"{self.engine} {self.chips}" if self.chips else "",
            "class": self.device_class,
            "maker": maker,
            "chips": self.chips,
            "backend": f"{release} {maker}" if release else "",
            "build": f"{release} {scheme}" if release and scheme != "*" else "",
        }
        kinds = usual(self.tuned)[constant].shifts
        return [
            (constant, "", ""),
            *((constant, kind, marks[kind]) for kind in kinds if marks[kind]),
        ]


@dataclass(frozen=True, slots=True)
class Knobs:
    """All knobs that rows can turn, in a fixed order."""

    names: tuple[Knob, ...]
    engines: Mapping[str, Engine]

    @classmethod
    def for_rows(cls, rows: Iterable[tuple[Engine, MeasuredSpeed]]) -> Knobs:
        """The knobs of the constants that some row depends on."""
        names: dict[Knob, None] = {}
        engines: dict[str, Engine] = {}
        for engine, row in rows:
            engines[engine.id] = engine
            place = Place.of(engine, row.device)
            scheme = scheme_key(row.quant)
            for constant in _felt(row):
                if place.usual[constant].spread:
                    names |= dict.fromkeys(place.shifts(constant, scheme))
            if not place.fused and row.speed in OF_PROMPTS:
                names |= dict.fromkeys(place.shifts("score_bytes"))
        return cls(tuple(sorted(names)), engines)

    @property
    def spreads(self) -> list[float]:
        """Standard deviation of every knob, before anything was measured.

        Engines with tuned kernels and others in one fit move as far as the others.
        """
        known = usual(all(engine.tuned_kernels for engine in self.engines.values()))
        return [
            known[constant].shifts[kind] if kind else known[constant].spread
            for constant, kind, _ in self.names
        ]

    def turned(self, vector: Sequence[float]) -> Mapping[Knob, float]:
        """The knobs at the values of a vector."""
        return dict(zip(self.names, vector, strict=True))


def _felt(row: MeasuredSpeed) -> list[str]:
    """Constants on which the speed of a row depends."""
    found = ["bandwidth", "compute", "kv_bandwidth", "attention_compute", "layer_overhead_s"]
    found.append("step_overhead_s")
    if row.device.tdp_w:
        found.append("flop_per_joule")
    if row.quant.is_packed:
        found.append("unpack_flops")
    if row.quant.scale_block:
        found.append("scale_flops")
    prompts = row.speed in ("prefill_tok_s", "ttft_ms") or row.load.batch > 1
    if row.load.batch > 1:
        found.append("sequence_overhead_s")
    if row.speed == "prefill_tok_s":  # a TTFT under load has too much else in it
        found.append("fill_width")
    if row.count > 1:
        found += ["sync_s", "sync_bandwidth"]
    if any(layer.experts for layer in row.model.layers):
        found += (
            ["expert_overhead_s", "experts", "expert_tile"] if prompts else ["expert_overhead_s"]
        )
    if row.speed == "ttft_ms":  # a time per token alone says little of the wait before it
        found += ["request_s", "admission_steps", "first_wave"]
    return found


def shift(turned: Mapping[Knob, float], place: Place, name: str, scheme: str = "*") -> float:
    """What the knobs add to the logarithm of a constant; knobs that are not turned add nothing."""
    return sum(turned.get(knob, 0.0) for knob in place.shifts(name, scheme))


def moved(
    name: str, begin: float | None, log_shift: float, known: Mapping[str, Usual] = USUAL
) -> float:
    """A constant after a shift, within what is possible; from the usual where ``begin`` is None."""
    one = known[name]
    value = (one.value if begin is None else begin) * exp(log_shift)
    return min(one.high, max(one.low, value))


def calibration(
    turned: Mapping[Knob, float],
    place: Place,
    schemes: Iterable[str],
    begin: Calibration | None,
) -> Calibration:
    """The constants at a place, from those of ``begin`` or from the usual ones."""
    efficiency = {}
    for scheme in schemes:
        old = begin.for_quant(scheme, scheme) if begin else None
        efficiency[scheme] = Efficiency.model_construct(
            bandwidth=moved(
                "bandwidth",
                old.bandwidth if old else None,
                shift(turned, place, "bandwidth", scheme),
                place.usual,
            ),
            compute=_compute(old, shift(turned, place, "compute", scheme), place.usual),
            experts=moved(
                "experts",
                old.experts if old else None,
                shift(turned, place, "experts", scheme),
                place.usual,
            ),
            flop_per_joule=moved(
                "flop_per_joule",
                old.flop_per_joule if old else None,
                shift(turned, place, "flop_per_joule", scheme),
                place.usual,
            ),
            layer_overhead_s=old.layer_overhead_s if old else 0.0,
        )
    single: dict[str, float | None] = {
        name: moved(name, was, shift(turned, place, name), place.usual)
        for name, was in _single(begin).items()
    }
    if place.fused:
        single["score_bytes"] = 0.0
    steps = begin.admission_steps if begin else None
    platforms = {knob for knob in place.shifts("admission_steps") if knob[1] == "platform"}
    known = place.admission_steps is not None or bool(platforms & set(turned))
    if steps is not None or (begin is None and known):
        single["admission_steps"] = moved(
            "admission_steps", steps, shift(turned, place, "admission_steps"), place.usual
        )
    if begin is None:
        return Calibration(efficiency=efficiency, source="fit").model_copy(update=single)
    kept = {key: old for key, old in begin.efficiency.items() if key not in efficiency}
    return begin.model_copy(update=single | {"efficiency": kept | efficiency})


def _single(begin: Calibration | None) -> dict[str, float | None]:
    """The constants that no scheme changes, as they are now."""
    names = [name for name in USUAL if name not in (*_OF_SCHEMES, *_OF_ENGINES)]
    return {name: getattr(begin, name) if begin else None for name in names}


def _compute(old: Efficiency | None, log_shift: float, known: Mapping[str, Usual]) -> float | Curve:
    if old is None:
        return moved("compute", None, log_shift, known)
    if isinstance(old.compute, tuple):
        return tuple(
            (tokens, moved("compute", share, log_shift, known)) for tokens, share in old.compute
        )
    return moved("compute", old.compute, log_shift, known)


def habits(turned: Mapping[Knob, float], engine: Engine, fresh: bool) -> dict[str, float]:
    """The constants of an engine as a whole that rows have turned."""
    place = Place.whole_class(engine, "")
    return {
        name: moved(
            name,
            None if fresh else getattr(engine, name),
            shift(turned, place, name),
            place.usual,
        )
        for name in _OF_ENGINES
        if _turns(turned, name)
    }


def _turns(turned: Mapping[Knob, float], name: str) -> bool:
    return any(knob[0] == name for knob in turned)
