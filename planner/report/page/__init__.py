"""One self-contained page: the recommendation in words, six pictures, and what they rest on."""

from planner.report.page.facts import Facts, Served
from planner.report.page.page import render

__all__ = ["Facts", "Served", "render"]
