"""What a scenario says of drafts: which model makes them, and how often they are right."""

from __future__ import annotations

from planner.core.engine import Engine
from planner.core.errors import FileProblem
from planner.core.model import ModelSpec
from planner.core.problem import Problem
from planner.files.document import Document
from planner.files.references import References
from planner.files.semantics import Expanded
from planner.files.surface import ScenarioFile
from planner.plan.room import draft_without_room

_HINT = "planner run --calibrate DIR measures how often drafts are right; --profiles DIR takes it"


def fill_in_acceptance(document: Document, cards: References) -> None:
    """Has a scenario that does not state the acceptance say what the engine's profile does."""
    serving = document.value.get("serving")
    speculation = serving.get("speculation") if isinstance(serving, dict) else None
    if not isinstance(speculation, dict) or "acceptance" in speculation:
        return
    engine = cards.cards.get(("engines", str(document.value.get("engine"))))
    model = cards.cards.get(("models", str(document.value.get("model"))))
    named = document.value.get("draft")
    draft = cards.cards.get(("models", str(named))) if named is not None else None
    known = None
    if isinstance(engine, Engine) and model is not None and (named is None or draft is not None):
        known = engine.acceptance(model.id, draft.id if draft else "")
    if known is None:
        cards.hints.append(_HINT)
    else:
        speculation["acceptance"] = known


def check_draft(
    given: ScenarioFile, document: Document, cards: References, expanded: Expanded
) -> list[FileProblem]:
    """What is wrong with the draft model of a scenario."""
    if given.draft is None:
        return []
    speculation, said = given.serving.speculation, []
    model = cards.card("models", given.model, ModelSpec)
    draft = cards.card("models", given.draft, ModelSpec)
    homes = [node for node in expanded.nodes if node.id in expanded.seats]
    bare = next((node for node in homes if node.device is None), None)
    if speculation is None:
        said.append("is of no use without serving.speculation")
    elif not speculation.draft_token_s and bare is not None:
        said.append(
            f"{bare.id} coordinates and has no device to draft on: give it one, or state "
            "serving.speculation.draft_token"
        )
    if draft.vocab_size != model.vocab_size:
        said.append(
            f"has {draft.vocab_size} tokens, {model.id} has {model.vocab_size}: a draft must "
            "use the same ones"
        )
    if given.workload.longest_tokens > draft.max_position_embeddings:
        said.append(
            f"requests of up to {given.workload.longest_tokens} tokens exceed its context, "
            f"{draft.max_position_embeddings} tokens"
        )
    return [document.problem(("draft",), message) for message in said]


def draft_warnings(problem: Problem) -> list[str]:
    """What deserves a warning: no room for the draft model at any seat, an engine's rules lost."""
    lacking, speculation = draft_without_room(problem), problem.serving.speculation
    said = [f"draft: {lacking}"] if lacking else []
    if speculation is not None and problem.engine.scheduler != "runtime":
        cached = problem.engine.prefix_cache and problem.workload.sessions is not None
        own = f"those of {problem.engine.id}" + (", whose prefix cache is lost" if cached else "")
        said.append(
            "serving.speculation: drafts are checked under the rules of planner's runtime, not "
            f"under {own}"
            + (
                "; with none the engine's own hold: two schedulers are compared"
                * speculation.at_most
            )
        )
    return said
