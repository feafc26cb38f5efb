"""Problem: everything the planner may know, in one value."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from planner.core.cluster import Cluster
from planner.core.deployment import Deployment
from planner.core.engine import Calibration, Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.core.requirements import Requirements
from planner.core.spec import Spec
from planner.core.speculation import Speculation
from planner.core.units import Count, Seconds
from planner.core.verification import Verification
from planner.core.workload import Workload

if TYPE_CHECKING:
    from planner.core.cost.stagetime import StageTime


class Serving(Spec):
    """How pipelines are operated."""

    max_num_seqs: Count | None = None
    """Most sequences a pipeline serves at once; the engine's own limit where absent."""
    kv_blocks: Count | None = None
    """Blocks of KV cache of a pipeline under vLLM's rules; as many as fit where absent."""
    micro_batches: Count = 1
    """Groups of sequences in flight through a pipeline."""
    mixed_quants: bool = False
    """Whether the stages of a pipeline may differ in quantization."""
    return_path: Literal["direct", "relayed", "star"] = "direct"
    """Whether the last stage answers the coordinator itself, or back through all stages, or every
    stage answers the coordinator, which sends on."""
    sticky_sessions: bool = True
    """Whether a turn goes to the pipeline of the turn before, whose cache may hold it, if that
    works; else to the least loaded one, like every request."""
    speculation: Speculation | None = None
    """Drafting by a small model at the coordinator; None where every token takes a traversal."""
    verification: Verification | None = None
    """Receipts and audits; None where nodes are taken at their word."""
    detect_s: Seconds = Field(default=5.0, alias="detect")
    """Deadline after which a node that does not answer counts as lost."""
    patience_s: Seconds = Field(default=60.0, alias="patience")
    """How long requests wait for a lost node that nothing replaces, before they fail."""

    @property
    def tokens_per_round(self) -> float:
        """Expected tokens that one decode step brings each sequence."""
        return self.speculation.tokens_per_round if self.speculation else 1.0

    @property
    def luck(self) -> bool:
        """Whether chance decides how many tokens a decode step brings."""
        return self.speculation is not None and 0 < self.speculation.acceptance < 1

    @property
    def draft_tokens(self) -> int:
        """Tokens drafted for one check; 0 where every token takes a traversal."""
        return self.speculation.draft_tokens if self.speculation else 0

    @property
    def checked_tokens(self) -> int:
        """Tokens of each sequence in a decode step: the latest one and the drafts after it."""
        return 1 + self.draft_tokens

    @property
    def checks_in_flight(self) -> int:
        """Checks of drafts under way at once."""
        return self.speculation.checks_in_flight if self.speculation else 1


class Problem(Spec):
    """Cluster, model, quantizations, engine, workload and requirements."""

    name: str
    cluster: Cluster
    model: ModelSpec
    draft: ModelSpec | None = None
    """Small model at the coordinator that guesses ahead, under ``serving.speculation``; without one
    guesses are looked up in the text so far."""
    engine: Engine
    quants: tuple[QuantScheme, ...] = Field(min_length=1)
    workload: Workload
    requirements: Requirements = Requirements()
    serving: Serving = Serving()
    deployment: Deployment = Deployment()

    @model_validator(mode="after")
    def _calibrated(self) -> Problem:
        for node in self.cluster.workers:
            calibration = self.engine.calibration(self.cluster.device(node.id))
            for quant in self.quants:
                calibration.for_quant(quant.id, quant.compute_dtype)
        speculation, homes = self.serving.speculation, map(self.cluster.node, self.cluster.seats)
        untimed = speculation is not None and not speculation.draft_token_s
        bare = next((node for node in homes if node.device is None), None)
        if self.draft is not None and untimed and bare is not None:
            raise ValueError(
                f"{bare.id} coordinates and has no device to draft on: give it one, or state "
                "serving.speculation.draft_token"
            )
        for wish in self.requirements.terms:
            if wish.endswith("tpot") and self.workload.output.max_tokens < 2:
                raise ValueError(f"objective {wish} means nothing for answers of a single token")
        longest = self.workload.longest_tokens
        if longest > self.model.max_position_embeddings:
            raise ValueError(
                f"requests of up to {longest} tokens exceed the model's "
                f"max_position_embeddings of {self.model.max_position_embeddings}"
            )
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the problem, as hexadecimal text."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def known_stages(self) -> dict[tuple[object, ...], StageTime]:
        """Times of stages that were asked for: most plans of a search are made of the same ones."""
        return self._known_stages

    @cached_property
    def _known_stages(self) -> dict[tuple[object, ...], StageTime]:
        return {}

    @cached_property
    def _quants(self) -> dict[str, QuantScheme]:
        return {quant.id: quant for quant in self.quants}

    def quant(self, quant_id: str) -> QuantScheme:
        """The scheme of that id; raises KeyError."""
        return self._quants[quant_id]

    def calibration(self, node_id: str) -> Calibration:
        """The engine's constants on a node's device."""
        return self.engine.calibration(self.cluster.device(node_id))

    @property
    def continuous(self) -> bool:
        """Whether pipelines follow vLLM's rules, not the runtime's: those alone check drafts."""
        return self.engine.scheduler == "vllm" and self.serving.speculation is None

    @property
    def tokens_per_request(self) -> int:
        """Longest request (tokens): what KV memory is set aside for."""
        return self.workload.longest_tokens
