"""``--html``: pages opened in a browser that has no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, Browser, chromium
from tests.cli.scene import Scene
from tests.cli.test_run import two_stages

LOOKS = ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"))
SCENARIOS = Path(__file__).parent.parent.parent / "scenarios"
PICTURES = {"map", "token", "front", "tornado", "ttft", "tpot", "timeline-simulated", "agreement"}
QUESTIONS = (
    "What is recommended?",
    "What does it cost?",
    "What limits it?",
    "What if a node leaves?",
    "When is something else better?",
)

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as one:
        yield one


def looked_at(browser: Browser, page: Path, figures: set[str]) -> str:
    """The text of a page that is whole, quiet and fits, whatever the window and the theme."""
    grounds = set()
    for width_px, theme in LOOKS:
        seen = browser.visit(page, width_px, theme)
        assert seen.requests == [page.as_uri()]
        assert seen.complaints == []
        assert seen.overflow_px <= 0, (width_px, theme)
        assert figures <= set(seen.pictures)
        assert all(seen.pictures.values()), seen.pictures
        grounds.add((theme, seen.background))
    assert len({ground for _, ground in grounds}) == 2
    return seen.text


def test_the_page_of_a_plan_answers_a_first_time_reader(browser: Browser, scene: Scene) -> None:
    page = scene.folder / "plan.html"
    said = scene.terminal("plan", SCENARIOS / "marketplace.yaml", "--html", page)
    assert said.code == 0, said.stderr
    text = looked_at(browser, page, PICTURES)
    assert all(question in text for question in QUESTIONS)
    assert "USD per million output tokens" in text
    assert "eu-3090" in text
    assert text.splitlines()[2].startswith("Use the API of ")
    assert "times cheaper" in text
    assert "On these nodes: run llama-3.3-70b" in text
    assert "price of 2026-" in text


def test_the_page_of_a_simulation_shows_losses_and_recoveries(
    browser: Browser, scene: Scene
) -> None:
    churn = "distribution: recorded\nrecorded: [true, true, false, true]\nstep: 4 s\n"
    cards = scene.folder / "profiles" / "churn"
    cards.mkdir(parents=True)
    scenario = scene.scenario("serving: {detect: 1 s}\n")
    (cards / "blinks.yaml").write_text(f"{churn}source: made up\nas_of: 2026-01-01\n")
    text = scenario.read_text().replace("price: 0.40 USD/h", "price: 0.40 USD/h\n    churn: blinks")
    text = text.replace("tokens: 10}", "tokens: 900}").replace("concurrency: 2", "concurrency: 1")
    scenario.write_text(text)
    page = scene.folder / "simulate.html"
    sets = ["workload.requests=12", "nodes.a.memory=600 kB", "nodes.b.memory=600 kB"]
    said = scene.planner("simulate", scenario, "--html", page, *(f"--set={one}" for one in sets))
    assert said.code == 0, said.stderr
    shown = looked_at(browser, page, {"map", "token", "ttft", "tpot", "timeline-simulated"})
    assert "losses were recovered" in shown


def test_the_page_of_a_run_has_measured_beside_simulated(browser: Browser, scene: Scene) -> None:
    page = scene.folder / "run.html"
    said = scene.planner("run", two_stages(scene), "--html", page)
    assert said.code == 0, said.stderr
    figures = {"map", "token", "ttft", "tpot", "timeline-simulated", "timeline-measured"}
    text = looked_at(browser, page, figures | {"agreement"})
    assert "as measured" in text
