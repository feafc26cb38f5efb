"""A deployment planner and cost/latency simulator for decentralised LLM inference."""

__version__ = "0.1.0"
