"""Chat: a conversation becomes the prompt that its model was trained to continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from planner.core.errors import FileProblem, InvalidFileError

Template = Callable[[Sequence[tuple[str, str]]], str]
"""Takes roles and texts and gives the prompt."""

_LIMIT_BYTES = 16 * 2**20


def chat_template(directory: Path) -> Template:
    """The template of a checkpoint, or plain lines where it has none; raises InvalidFileError.

    Templates are Jinja and come with the model. They run in Jinja's sandbox, where they can reach
    nothing but the conversation.
    """
    path = directory / "tokenizer_config.json"
    beside = directory / "chat_template.jinja"
    config: dict[str, Any] = {}
    try:
        if path.is_file() and path.stat().st_size <= _LIMIT_BYTES:
            config = json.loads(path.read_text(encoding="utf-8"))
        source = beside.read_text(encoding="utf-8") if beside.is_file() else _source(config)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidFileError([FileProblem(str(path), f"cannot be used: {error}")]) from None
    return _plain if source is None else _compiled(source, config, path)


def _source(config: dict[str, Any]) -> str | None:
    """The template in a tokenizer's configuration; the default one where it has several."""
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _compiled(source: str, config: dict[str, Any], path: Path) -> Template:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def fail(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": fail, "strftime_now": _now}
    environment.filters["tojson"] = _json
    try:
        template = environment.from_string(source)
    except TemplateError as error:
        problem = FileProblem(str(path), f"its chat template is wrong: {error}")
        raise InvalidFileError([problem]) from None
    marks = {name: _mark(config.get(name)) for name in ("bos_token", "eos_token")}

    def render(turns: Sequence[tuple[str, str]]) -> str:
        messages = [{"role": role, "content": text} for role, text in turns]
        try:
            return template.render(messages=messages, add_generation_prompt=True, **marks)
        except Exception as error:  # whatever a template does with what it did not expect
            raise ValueError(f"the model's chat template refuses this: {error}") from None

    return render


def _now(form: str) -> str:
    """The time, as templates write it that tell the model what day it is."""
    return time.strftime(form)


def _json(value: Any, indent: int | None = None) -> str:
    """JSON as models have seen it in training: no character is escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _mark(found: Any) -> str:
    """A special token, which configurations write in two ways."""
    if isinstance(found, dict):
        found = found.get("content")
    return found if isinstance(found, str) else ""


def _plain(turns: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{role}: {text}\n" for role, text in turns) + "assistant:"
