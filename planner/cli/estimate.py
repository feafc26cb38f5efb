"""``planner estimate``: one model on one node, without any network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption

if TYPE_CHECKING:
    from planner.core.device import Device
    from planner.core.engine import Engine
    from planner.core.quant import QuantScheme
    from planner.files.catalogue import Catalogue

_THIS_HOST = "this-host"
_DEFAULT_ENGINE = "llama.cpp"
_DEFAULT_QUANTS = {"llama.cpp": "q4_k_m", "llama.cpp-2024": "q4_k_m"}


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
        typer.Option("--engine", help="Engine profile.  [default: llama.cpp]"),
    ] = None,
    quant: Annotated[
        str | None,
        typer.Option(
            "--quant", help="Quantization.  [default: q4_k_m for llama.cpp, bf16 for others]"
        ),
    ] = None,
    prompt: Annotated[int, typer.Option("--prompt", min=1, help="Prompt tokens.")] = 512,
    output: Annotated[int, typer.Option("--output", min=1, help="Output tokens.")] = 128,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Requests decoded together.")] = 1,
    draft_tokens: Annotated[
        int, typer.Option("--draft-tokens", min=0, help="Tokens a draft model proposes per step.")
    ] = 0,
    acceptance: Annotated[
        float,
        typer.Option("--acceptance", min=0, max=1, help="Chance that a drafted token is right."),
    ] = 0.7,
    draft_ms: Annotated[
        float, typer.Option("--draft-ms", min=0, help="Milliseconds to draft one token.")
    ] = 0.0,
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
    from planner.core.speculation import Speculation
    from planner.report.estimate import EstimateReport

    known = catalogue(profiles)
    chosen_device = card(known, "devices", device, Device)
    wanted = engine or (_THIS_HOST if device == _THIS_HOST else _DEFAULT_ENGINE)
    chosen_engine = card(known, "engines", wanted, Engine)
    wanted_quant = quant or _DEFAULT_QUANTS.get(chosen_engine.id, "bf16")
    chosen_quant = card(known, "quants", wanted_quant, QuantScheme)
    chosen_model = card(known, "models", model, ModelSpec)
    load = cost.Load(prompt, output, batch)
    drafts = None
    if draft_tokens:
        drafts = Speculation(
            draft_tokens=draft_tokens, acceptance=acceptance, draft_token_s=draft_ms / 1e3
        )
    try:
        values = cost.estimate(
            chosen_model, chosen_quant, chosen_device, count, chosen_engine, load, drafts
        )
    except ValueError as error:
        hint = _ways_out(known, chosen_engine, chosen_device, chosen_quant)
        raise UsageError(str(error), hint) from None
    report = EstimateReport(chosen_model, chosen_quant, chosen_device, count, chosen_engine, values)
    if format is Format.json:
        console.emit_json(report.document())
    else:
        console.emit(*report.text())
    if prompt + output > chosen_model.max_position_embeddings:
        console.warn(
            f"{prompt + output} tokens are more than the {chosen_model.max_position_embeddings} "
            f"that {chosen_model.id} was made for"
        )


def _ways_out(known: Catalogue, engine: Engine, device: Device, quant: QuantScheme) -> str:
    """What would work instead: the engine's schemes on the device, or engines that know it."""
    from planner.core.engine import Engine

    fitting = []
    for name in known.names("engines"):
        other, _ = known.get("engines", name)
        if not isinstance(other, Engine) or other.id == engine.id:
            continue
        try:
            other.calibration(device).for_quant(quant.id, quant.compute_dtype)
        except ValueError:
            continue
        fitting.append(name)
    if not fitting:
        return f"no engine is calibrated for {device.id} with {quant.id}"
    return f"engines calibrated for {device.id} with {quant.id}: {', '.join(fitting)}"
