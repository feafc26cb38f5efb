"""The page as HTML: one file with its style, its script and its data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources

from planner.core.words import figure
from planner.report.page.agreement import agreement_figure
from planner.report.page.answers import (
    advised,
    against,
    answers,
    basis,
    better_in_all,
    must_haves,
)
from planner.report.page.basis import assumptions, prices, sources
from planner.report.page.course import timeline_figure
from planner.report.page.draw import Figure
from planner.report.page.facts import Facts
from planner.report.page.front import front_figure
from planner.report.page.latency import latency_figures
from planner.report.page.map import map_figure
from planner.report.page.token import token_figure
from planner.report.page.tornado import tornado_figure
from planner.report.tables import cost_rows

_MOST_PIPELINES = 3
_VARIED = ("", "mean TPOT", "p95 TTFT", "tokens per second", "price", "must-haves")
_LONG_CELL = 60
"""Characters of a cell beyond which a narrow screen has the cells below each other."""
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
"""The browser itself refuses whatever the page might ask of a network."""


def render(facts: Facts) -> str:
    """The page of ``facts``; needs plotly."""
    from plotly.offline import get_plotlyjs

    figures: list[Figure] = []
    body = "\n".join(_body(facts, figures))
    data = {one.name: {"data": one.data, "layout": one.layout} for one in figures}
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(advised(facts))}</title>
<style>{_asset("page.css")}</style>
</head>
<body>
<main>
{body}
</main>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="figures">{_inert(data)}</script>
<script>{_asset("page.js")}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _inert(values: object) -> str:
    """JSON that no browser takes for markup."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _body(facts: Facts, figures: list[Figure]) -> Iterator[str]:
    """The parts of the page; the figures among them are added to ``figures``."""
    yield from _head(facts)
    yield _section("In short", _questions(facts))
    if facts.varied:
        yield _section("Under every value", _table(_VARIED, _varied(facts)))
    for title, lead, found in _pictures(facts):
        figures += found
        yield _section(title, *_figures(lead, found))
    yield _section("What it costs", _costs(facts))
    rows = must_haves(facts)
    if rows:
        marked = [(*row[:3], ("✓ " if row[3] == "met" else "✗ ") + row[3]) for row in rows]
        yield _section(
            "Must-haves", _table(("", "asked", basis(facts).removeprefix("as "), ""), marked)
        )
    yield _section("Assumptions", _table((), assumptions(facts)))
    asked = list(prices(facts))
    told = [] if asked else ["<p>The scenario puts no price on these nodes.</p>"]
    found_prices = [_table(("price", "", "as of"), asked)] if asked else []
    cards = _table(("data", "as of", "source"), sources(facts.problem, facts.plan.nodes))
    more = f"<details><summary>Where the other figures come from</summary>{cards}</details>"
    yield _section("Prices and data", *told, *found_prices, more)
    if facts.warnings:
        yield _section("Warnings", _list(facts.warnings))
    yield f"<footer>Made by <code>{escape(facts.command)}</code>. Problem "
    yield f"<code>{facts.problem.digest[:12]}</code>.</footer>"


def _head(facts: Facts) -> Iterator[str]:
    metrics, must = facts.best_known, facts.problem.requirements.must_have
    missed = {miss.metric for miss in must.missed(metrics)}
    yield f"<header><p class=kicker>{escape(facts.problem.name)}</p>"
    title = " ".join(f"<span>{escape(word)}</span>" for word in advised(facts).split(" "))
    yield f"<h1>{title}</h1>"
    rival = better_in_all(facts)
    if facts.verdict:
        more = facts.verdict[1:] if facts.elsewhere else facts.verdict
        if more:
            yield f"<p class=but>{escape(' '.join(more))}</p>"
    elif rival is not None:
        yield f"<p class=but><b>But</b> {escape(against(facts.best_known, rival))}</p>"
    yield "<div class=tiles>"
    for name, title in (
        ("mean_ttft_ms", "until the first token"),
        ("mean_tpot_ms", "per further token"),
        ("output_throughput", "for all users together"),
        ("usd_per_hour", "cost per hour"),
        ("usd_per_million_output_tokens", "per million output tokens"),
    ):
        value = getattr(metrics, name)
        if value is None:
            continue
        number, _, unit = _plain(name, value).partition(" ")
        bad = " <b class=bad>✗ more than asked</b>" if name in missed else ""
        yield (
            f"<div class=tile><strong>{number}<small>{unit}</small></strong>"
            f"<span>{title}{bad}</span></div>"
        )
    runs = facts.simulated.runs if facts.simulated and not facts.measured else 1
    means = f"means of {runs} runs" if runs > 1 else "means"
    yield f"</div><p class=hint>The plan for these nodes; {means}, {basis(facts)}.</p></header>"


def _plain(name: str, value: float) -> str:
    """A figure as it is said: seconds rather than thousands of milliseconds."""
    if name.endswith("_ms"):
        return f"{value / 1e3:.3g} s" if value >= 1e3 else f"{value:.3g} ms"
    unit = {"output_throughput": "tok/s"}.get(name, "USD")
    return f"{value:.3g} {unit}" if value < 1e3 else f"{value:,.0f} {unit}"


def _questions(facts: Facts) -> str:
    made = "".join(
        f"<div><dt>{escape(question)}</dt><dd>{_list(told)}</dd></div>"
        for question, told in answers(facts)
    )
    return f"<dl>{made}</dl>"


def _varied(facts: Facts) -> Iterator[tuple[str, ...]]:
    """A row for each combination of values, the one that the page shows first."""
    for one in facts.varied:
        metrics = one.metrics
        yield (
            one.name,
            figure("mean_tpot_ms", metrics.mean_tpot_ms),
            figure("p95_ttft_ms", metrics.p95_ttft_ms),
            figure("output_throughput", metrics.output_throughput),
            figure("usd_per_million_output_tokens", metrics.usd_per_million_output_tokens),
            f"✗ {len(one.missed)} missed" if one.missed else "✓ met",
        )


def _pictures(facts: Facts) -> Iterator[tuple[str, str, list[Figure]]]:
    """Title, what to know before looking, and the figures of every part."""
    yield "Where it runs", "", [map_figure(facts)]
    several = len(facts.prediction.pipelines) > 1
    tokens = [
        token_figure(facts.problem, one, index if several else None)
        for index, one in enumerate(facts.prediction.pipelines[:_MOST_PIPELINES])
    ]
    lead = "From the coordinator, through all stages, back."
    yield "Where the time of one token goes", lead, tokens
    front = front_figure(facts)
    lead = "Across: the price; up: time per output token. Down left is best."
    if front is None:
        lead = "Nothing: no other plan was found, and no alternative was named."
    yield "What else was possible", lead, [front] if front else []
    tornado = tornado_figure(facts.turns)
    lead = "How far an input would have to be from its value today. Short bars are the risks."
    if facts.turns_from:
        lead += f" Seen from {facts.turns_from}, the choice of the formulas alone."
    if tornado is None:
        lead = "No single price, speed or load was found that makes another plan the better one."
    yield "What would change the choice", lead, [tornado] if tornado else []
    must = facts.problem.requirements.must_have
    lead = "The share of requests that were answered within a time."
    felt = list(latency_figures(facts.served, must))
    if felt:
        yield "What users feel", lead, felt
    courses = [made for one in facts.served if (made := timeline_figure(one, facts.plan))]
    if courses:
        yield "How it went", "Output tokens per second, and what failed on the way.", courses
    agreement = agreement_figure(facts)
    if agreement is not None:
        yield "How well the figures agree", "", [agreement]


def _figures(lead: str, found: Sequence[Figure]) -> Iterator[str]:
    if lead:
        yield f"<p class=lead>{escape(lead)}</p>"
    yield f"<div class='figures n{min(2, len(found))}'>" if len(found) > 1 else "<div>"
    for one in found:
        details = ""
        if one.rows:
            table = _table(one.columns, one.rows)
            details = f"<details><summary>The figures</summary>{table}</details>"
        caption = escape(one.caption)
        legend = "".join(
            f"<span><i style='color:{colour}'>{mark}</i>{escape(name)}</span>"
            for mark, colour, name in ((m, _css(c), n) for m, c, n in one.legend)
        )
        yield (
            f"<figure><div class=legend>{legend}</div>"
            f'<div class=picture data-figure="{one.name}" role=img '
            f'aria-label="{caption}" style="height:{one.layout["height"]}px"></div>'
            f"<figcaption>{caption}</figcaption>{details}</figure>"
        )
    yield "</div>"


def _css(colour: str) -> str:
    """A role as the style sheet names it."""
    return f"var(--{colour[1:]})" if colour.startswith("@") else colour


def _costs(facts: Facts) -> str:
    rows = [(name.replace("_", " "), value) for name, value in cost_rows(facts.cost_usd_per_hour)]
    return _table((), rows, last_is_sum=len(rows) > 2)


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _list(texts: Iterable[str]) -> str:
    found = list(texts)
    if len(found) == 1:
        return f"<p>{_sentence(found[0])}</p>"
    return "<ul>" + "".join(f"<li>{_sentence(text)}</li>" for text in found) + "</ul>"


def _sentence(text: str) -> str:
    return escape(text.replace(" -> ", " → "))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], last_is_sum: bool = False) -> str:
    """A table; cells that are figures stand to the right."""
    head = ""
    if any(columns):
        head = "<tr>" + "".join(f"<th>{escape(one)}</th>" for one in columns) + "</tr>"
    found = list(rows)
    body = ""
    for index, row in enumerate(found):
        name = " class=sum" if last_is_sum and index == len(found) - 1 else ""
        cells = "".join(
            f"<td{' class=n' if _numeric(cell) and at else ''}>{escape(cell)}</td>"
            for at, cell in enumerate(row)
        )
        body += f"<tr{name}>{cells}</tr>"
    long = any(len(cell) > _LONG_CELL for row in found for cell in row)
    return f"<div class=scroll><table{' class=long' if long else ''}>{head}{body}</table></div>"


def _numeric(cell: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.,]+( ?\S+)?", cell) is not None
