"""Quality: what quantization leaves of the model's answers."""

from __future__ import annotations

from planner.core.plan import Plan
from planner.core.problem import Problem


def plan_quality(problem: Problem, plan: Plan) -> float | None:
    """Share of the unquantised quality that the worst stage keeps; None where unknown."""
    used = {stage.quant for pipeline in plan.pipelines for stage in pipeline.stages}
    kept = [problem.quant(quant).quality_for(problem.model.family) for quant in sorted(used)]
    known = [value for value in kept if value is not None]
    return min(known) if len(known) == len(kept) else None
