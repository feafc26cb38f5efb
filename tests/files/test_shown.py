from __future__ import annotations

import json
from pathlib import Path

from planner.files.shown import pair_links, shown
from tests.files.world import SCENARIO, load, manifest


def test_a_scenario_is_shown_with_its_sources_and_real_lines(tmp_path: Path) -> None:
    text = SCENARIO.replace("region: us\n", "region: us\n    uplink: 8 Mbit/s\n")
    values = shown(load(tmp_path, text + "alternatives: [{api: {prices: shop}}]\n"))
    assert json.loads(json.dumps(values)) == values
    assert values["sources"]["devices/chip"].endswith("profiles/devices/chip.yaml")
    lines = values["problem"]["cluster"]["lines"]
    assert [(one["from"], one["to"], one["bandwidth"]) for one in lines] == [
        ("a", "b", "1 Gbit/s"),
        ("b", "a", "1 MB/s"),
    ]
    assert values["problem"]["cluster"]["nodes"][1]["price"] == "0.4 USD/h"
    assert values["alternatives"][0]["model"] == "tiny"


def test_a_manifest_is_shown_with_its_plan(tmp_path: Path) -> None:
    values = shown(manifest(load(tmp_path).problem))
    assert json.loads(json.dumps(values)) == values
    assert values["plan"]["pipelines"][0]["stages"][1]["node"] == "b"
    assert values["prediction"]["cost_usd_per_hour"]["rent"] == "0.4 USD/h"


def test_many_lines_are_cut(tmp_path: Path) -> None:
    text = SCENARIO.replace("  - id: b\n", "  - id: b\n    replicas: 50\n")
    assert len(pair_links(load(tmp_path, text).problem)) == 400
