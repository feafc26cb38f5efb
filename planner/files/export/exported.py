"""Export: files for an engine, the order in which to use them, and what they leave out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.files.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, with the commands that do it."""

    text: str
    commands: tuple[str, ...] = ()


@dataclass(slots=True)
class Export:
    """Files by name, and what of the plan the engine cannot express."""

    engine: str
    files: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Notes what the engine does not do, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def whole(self) -> Export:
        """The same with the page that says in which order to use the files."""
        lines = [f"# This plan under {self.engine}", ""]
        for number, step in enumerate(self.steps, start=1):
            lines.append(f"{number}. {step.text}")
            if step.commands:
                lines += ["", "   ```sh", *(f"   {one}" for one in step.commands), "   ```", ""]
        if self.warnings:
            lines += ["", "What the plan says and these files do not:", ""]
            lines += [f"- {warning}" for warning in self.warnings]
        self.files = {"README.md": "\n".join(lines) + "\n", **self.files}
        return self


def started(engine: str, manifest: Manifest, drafts: bool = False) -> Export:
    """An export with the warnings that hold for every engine but our own.

    ``drafts`` says that the files have the engine draft as the plan does.
    """
    made, plan = Export(engine), manifest.plan
    if len(plan.pipelines) > 1:
        weights = ", ".join(f"{pipeline.weight:g}" for pipeline in plan.pipelines)
        made.warn(f"put a router before the replicas, with weights {weights}")
    for one in plan.standbys:
        made.warn(f"standby {one.node} is not expressed; start it by hand")
    if any(pipeline.micro_batches > 1 for pipeline in plan.pipelines):
        made.warn("the number of micro-batches is left to the engine")
    speculation = manifest.problem.serving.speculation
    if speculation is not None and not drafts:
        draft = manifest.problem.draft
        by = f"with {draft.id}" if draft else "by looking up"
        made.warn(
            f"drafting {speculation.draft_tokens} tokens at a time {by} is not expressed; "
            "see the engine's own options for speculative decoding"
        )
    if manifest.problem.serving.return_path != "direct":
        path = manifest.problem.serving.return_path
        made.warn(f"the return path {path} is not expressed; the engine has its own")
    return made


def script(comments: Sequence[str], lines: Sequence[str], command: Sequence[str]) -> str:
    """A shell script: comments, what goes before, then a command, an option on each line."""
    head = ["#!/bin/sh", *(f"# {one}" for one in comments), "set -eu", *lines]
    return "\n".join([*head, "exec " + " \\\n  ".join(_options(command)), ""])


def _options(command: Sequence[str]) -> list[str]:
    """The words of a command by option; what is in double quotes holds variables, and stays."""
    grouped: list[list[str]] = [[]]
    for word in command:
        if word.lstrip('"').startswith("--") and grouped[-1]:
            grouped.append([])
        grouped[-1].append(word if word.startswith('"') else shlex.quote(word))
    return [" ".join(words) for words in grouped]
