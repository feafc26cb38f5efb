"""Champion: the best plan that a search has found so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.plan.predict import metrics, predict
from planner.plan.promise import as_cost, objective_value
from planner.plan.standby import promising


@dataclass
class Champion:
    """Nobody at first; then who costs least of those that keep the must-haves."""

    problem: Problem
    plan: Plan | None = None
    prediction: Prediction | None = None
    cost: float = math.inf

    def meet(self, plan: Plan) -> None:
        """Takes the place of the champion if it is better."""
        value = objective_value(self.problem, metrics(self.problem, plan))
        if value is None or (cost := as_cost(self.problem, value)) >= self.cost:
            return
        prediction = predict(self.problem, plan)
        if promising(self.problem, plan, prediction):
            self.plan, self.prediction, self.cost = plan, prediction, cost
