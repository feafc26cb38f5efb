"""``planner estimate``: one model on one node, without any network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption

if TYPE_CHECKING:
    from planner.core.cost.estimate import Estimate
    from planner.core.device import Device
    from planner.core.engine import Engine
    from planner.core.model import ModelSpec
    from planner.core.quant import QuantScheme
    from planner.core.speculation import Speculation
    from planner.files.catalogue import Catalogue
    from planner.report.estimate import Fitting

_PROBED = ("this-host", "this-gpu")
_ACCEPTANCE = 0.7
_MOST = 10_000_000
"""Tokens and requests of one node beyond which figures mean nothing."""
_GGUF_ENGINE, _SERVER = "llama.cpp", "vllm"
_GGUF_ENGINES = (_GGUF_ENGINE, "ollama")
_SERVER_CLASSES = ("nvidia_datacenter", "nvidia_datacenter_gddr", "amd_instinct")
_NARROWER = {
    **dict.fromkeys(_GGUF_ENGINES, ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k")),
    "planner": ("int8",),
}
"""Schemes with less to hold, by how the engine's id begins, the widest first."""
_NARROWER_SERVED = ("w8a8-int8", "int4-g128")
"""Those of servers; FP8 is left out, as not every card has it."""
_SHARED = (2, 4, 8)
"""Numbers of devices of which one may hold what fewer cannot."""
_ALSO_SERVE = ("nvidia_geforce", "nvidia_rtx_pro", "nvidia_gb10")


def estimate(
    model: Annotated[
        str, typer.Option("--model", help="Model profile, or a directory with a config.json.")
    ],
    device: Annotated[str, typer.Option("--device", help="Device profile, such as rtx-4090.")],
    count: Annotated[
        int, typer.Option("--count", min=1, help="Devices that share every layer.")
    ] = 1,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="Engine profile.  [default: llama.cpp; vllm on datacentre GPUs, and on GeForce, "
            "RTX PRO and GB10 for a --quant that is no GGUF type]",
        ),
    ] = None,
    quant: Annotated[
        str | None,
        typer.Option(
            "--quant",
            help="Quantization.  [default: of the model's name; q4_k_m for llama.cpp, else bf16]",
        ),
    ] = None,
    prompt: Annotated[int, typer.Option("--prompt", min=1, max=_MOST, help="Prompt tokens.")] = 512,
    output: Annotated[int, typer.Option("--output", min=1, max=_MOST, help="Output tokens.")] = 128,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=_MOST, help="Requests decoded together.")
    ] = 1,
    draft_tokens: Annotated[
        int, typer.Option("--draft-tokens", min=0, help="Tokens a draft model proposes per step.")
    ] = 0,
    acceptance: Annotated[
        float | None,
        typer.Option(
            "--acceptance",
            min=0,
            max=1,
            help="Chance that a drafted token is right.  [default: 0.7]",
        ),
    ] = None,
    draft_ms: Annotated[
        float | None,
        typer.Option("--draft-ms", min=0, help="Milliseconds to draft one token.  [default: 0]"),
    ] = None,
    cached: Annotated[
        int,
        typer.Option("--cached", min=0, max=_MOST, help="Tokens that are in the KV cache already."),
    ] = 0,
    kv_memory: Annotated[
        str | None,
        typer.Option(
            "--kv-memory", help="Memory for the KV cache, such as 8 GiB.  [default: what is left]"
        ),
    ] = None,
    profiles: ProfilesOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Estimate speed and memory of a model on one node.

    The figures, broken down into their parts, are those of the cost model that plan and simulate
    use, for one stage and no network, with the error such predictions had on data they were not
    fitted to.

    Example: `planner estimate --model llama-3.1-8b --device rtx-4090`
    """
    from planner.cli.cards import card, catalogue
    from planner.core.cost import estimate as cost
    from planner.core.device import Device
    from planner.core.engine import Engine
    from planner.core.errors import UsageError
    from planner.core.model import ModelSpec
    from planner.core.quant import QuantScheme
    from planner.files.names import published_in
    from planner.report.estimate import EstimateReport

    known = catalogue(profiles)
    chosen_device = card(known, "devices", device, Device)
    chosen_model = card(known, "models", model, ModelSpec)
    quant = quant or published_in(known, model)
    chosen_engine = card(known, "engines", engine or _engine(chosen_device, quant), Engine)
    wanted = _quant(known, quant, chosen_engine, chosen_model)
    chosen_quant = card(known, "quants", wanted, QuantScheme)
    load = cost.Load(prompt, output, batch, cached)
    kv_bytes = None if kv_memory is None else console.quantity("--kv-memory", kv_memory, "bytes")
    drafts = _drafts(draft_tokens, acceptance, draft_ms)

    def estimated(scheme: QuantScheme, devices: int) -> Estimate:
        return cost.estimate(
            chosen_model, scheme, chosen_device, devices, chosen_engine, load, drafts, kv_bytes
        )

    try:
        values = estimated(chosen_quant, count)
    except ValueError as error:
        hint = _ways_out(known, chosen_engine, chosen_device, chosen_quant)
        raise UsageError(str(error), hint) from None
    instead = (
        () if values.fits else tuple(_fitting(known, chosen_engine, chosen_quant, count, estimated))
    )
    report = EstimateReport(
        chosen_model, chosen_quant, chosen_device, count, chosen_engine, values, instead
    )
    console.tell(report, format)
    if prompt + output > chosen_model.max_position_embeddings:
        console.warn(
            f"{prompt + output} tokens are more than the {chosen_model.max_position_embeddings} "
            f"that {chosen_model.id} was made for"
        )


def _drafts(
    draft_tokens: int, acceptance: float | None, draft_ms: float | None
) -> Speculation | None:
    """What is drafted; raises UsageError where something is said of it and nothing is."""
    from planner.core.errors import UsageError
    from planner.core.speculation import Speculation

    if draft_tokens:
        return Speculation(
            draft_tokens=draft_tokens,
            acceptance=_ACCEPTANCE if acceptance is None else acceptance,
            draft_token_s=(draft_ms or 0.0) / 1e3,
        )
    said = {"--acceptance": acceptance, "--draft-ms": draft_ms}
    if given := [name for name, value in said.items() if value is not None]:
        raise UsageError(
            f"{' and '.join(given)} without --draft-tokens: nothing is drafted",
            "add --draft-tokens, such as --draft-tokens 4",
        )
    return None


def _engine(device: Device, quant: str | None) -> str:
    """What most people run on such a device, for weights in such a scheme."""
    if device.id in _PROBED:
        return device.id
    named = (quant or "").casefold()
    gguf = named.startswith(("q", "f16", "ud-", "i1-")) or named.endswith("gguf")
    if device.device_class in _SERVER_CLASSES:
        return _GGUF_ENGINE if gguf else _SERVER
    return _GGUF_ENGINE if gguf or not named or device.device_class not in _ALSO_SERVE else _SERVER


def _quant(known: Catalogue, quant: str | None, engine: Engine, model: ModelSpec) -> str:
    """The scheme that is meant, or in which an engine's users mostly have a model."""
    from planner.files.names import scheme_of

    usual = "q4_k_m" if engine.id.startswith(_GGUF_ENGINES) else "bf16"
    if model.id.startswith("gpt-oss"):
        usual = "mxfp4"
    wanted = quant or usual
    return scheme_of(known, wanted, model.id, engine.id) or wanted


def _fitting(
    known: Catalogue,
    engine: Engine,
    quant: QuantScheme,
    count: int,
    estimated: Callable[[QuantScheme, int], Estimate],
) -> Iterator[Fitting]:
    """What would fit instead: the engine's narrower schemes, and more devices in this scheme."""
    from planner.core.quant import QuantScheme
    from planner.report.estimate import Fitting

    own = next((name for name in _NARROWER if engine.id.startswith(name)), None)
    names = _NARROWER[own] if own else _NARROWER_SERVED
    narrower = [known.get_as("quants", name, QuantScheme)[0] for name in names]
    narrower = [one for one in narrower if one.weight_bits < quant.weight_bits]
    more = next((many for many in _SHARED if many > count and _fits(estimated, quant, many)), None)
    ways = [(one, count) for one in narrower if _fits(estimated, one, count)]
    for scheme, devices in [*ways, *([(quant, more)] if more else [])]:
        yield Fitting(scheme.id, devices, estimated(scheme, devices).memory.total_bytes)


def _fits(
    estimated: Callable[[QuantScheme, int], Estimate], quant: QuantScheme, count: int
) -> bool:
    """Whether an estimate can be made, and holds."""
    try:
        return estimated(quant, count).fits
    except ValueError:
        return False


def _ways_out(known: Catalogue, engine: Engine, device: Device, quant: QuantScheme) -> str:
    """What would work instead: the engine's schemes on the device, or engines that know it."""
    from planner.core.engine import Engine

    fitting = []
    for name in known.names("engines"):
        other, _ = known.get_as("engines", name, Engine)
        if other.id == engine.id:
            continue
        try:
            other.calibration(device).for_quant(quant.id, quant.compute_dtype)
        except ValueError:
            continue
        fitting.append(name)
    if not fitting:
        return f"no engine is calibrated for {device.id} with {quant.id}"
    return f"engines calibrated for {device.id} with {quant.id}: {', '.join(fitting)}"
