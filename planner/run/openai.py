"""The requests and answers of OpenAI's completion interfaces, as far as planner serves them.

What would change an answer and is not served is refused; what is only a hint is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_LONGEST = 2**20


class StreamOptions(BaseModel):
    """What a stream says besides its text."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    include_usage: bool = False


class Request(BaseModel):
    """What both interfaces have."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model: str = ""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    min_tokens: Annotated[int, Field(ge=0)] = 0
    n: Literal[1] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: dict[str, float] | None = Field(default=None, max_length=0)

    @property
    def stops(self) -> list[str]:
        """Strings that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @model_validator(mode="before")
    @classmethod
    def _whole_penalties(cls, values: Any) -> Any:
        """``0.0`` is the same request as ``0``."""
        if isinstance(values, dict):
            for name in ("presence_penalty", "frequency_penalty"):
                if values.get(name) == 0:
                    values = values | {name: 0}
        return values


class Completion(Request):
    """``POST /v1/completions``."""

    prompt: (
        Annotated[str, Field(max_length=_LONGEST)]
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=_LONGEST)]
        | Annotated[
            list[Annotated[str, Field(max_length=_LONGEST)]], Field(min_length=1, max_length=1)
        ]
    )
    logprobs: Literal[0] | None = None
    echo: Literal[False] = False
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None


class Part(BaseModel):
    """A piece of a message's content."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["text"]
    text: Annotated[str, Field(max_length=_LONGEST)]


class Turn(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=_LONGEST)] | list[Part]

    @property
    def text(self) -> str:
        """Its content, whichever way it was sent."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class Chat(Request):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Literal[False] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Counts of one answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def error(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error as clients expect it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
