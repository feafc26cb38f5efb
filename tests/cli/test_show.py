from __future__ import annotations

from pathlib import Path

from planner.files.manifest import write_manifest
from tests.cli.world import Terminal
from tests.files.world import manifest, write_scenario


def test_a_profile_is_shown_with_the_file_that_won(planner: Terminal, profiles: Path) -> None:
    done = planner("show", "device", "chip", "--profiles", profiles)
    assert done.code == 0
    assert done.stdout.startswith(f"# {profiles / 'devices/chip.yaml'}\n")
    assert "memory: 8 GiB" in done.stdout
    values = planner("show", "devices", "chip", "--profiles", profiles, "--format", "json").document
    assert values["file"] == str(profiles / "devices/chip.yaml")
    assert values["profile"]["device_class"] == "test"


def test_a_kind_alone_lists_its_names(planner: Terminal, profiles: Path) -> None:
    listed = planner("show", "devices", "--profiles", profiles).stdout.splitlines()
    assert {"chip", "odd", "rtx-4090"} <= set(listed)
    assert listed == sorted(listed)


def test_unknown_kinds_and_names_are_answered_with_the_near_ones(planner: Terminal) -> None:
    done = planner("show", "devise", "rtx-4090")
    assert (done.code, done.stdout) == (2, "")
    assert "did you mean device?" in done.stderr
    done = planner("show", "device", "rtx-409O")
    assert done.code == 2
    assert "did you mean rtx-4090?" in done.stderr
    assert planner("show", "device", "rtx-4090", "--set", "a=1").code == 2
    assert planner("show", "nowhere.yaml").code == 3


def test_the_name_of_a_profile_is_enough(planner: Terminal, profiles: Path) -> None:
    at = ("--profiles", profiles)
    assert planner("show", "chip", *at).stdout == planner("show", "device", "chip", *at).stdout
    assert "RTX 4090" in planner("show", "RTX 4090", *at).stdout
    done = planner("show", "rtx-409O", *at)
    assert (done.code, done.stdout) == (2, "")
    assert "did you mean rtx-4090?" in done.stderr
    (profiles / "networks/chip.yaml").write_text((profiles / "networks/lan.yaml").read_text())
    done = planner("show", "chip", *at)
    assert done.code == 2
    assert "chip is a device and a network" in done.stderr


def test_a_scenario_is_shown_resolved(planner: Terminal, tmp_path: Path) -> None:
    path = write_scenario(tmp_path)
    options = ("--profiles", tmp_path / "profiles")
    done = planner("show", path, *options)
    assert done.code == 0
    for word in ("Machines", "chip", "100 GB/s", "1 Gbit/s", "0.4 USD/h", "closed: concurrency 2"):
        assert word in done.stdout
    assert (
        "closed: concurrency 7"
        in planner("show", path, *options, "--set", "workload.arrivals.concurrency=7").stdout
    )
    values = planner("show", path, *options, "--format", "json").document
    assert len(values["problem"]["cluster"]["nodes"]) == 2
    assert values["sources"]["devices/chip"] == str(tmp_path / "profiles/devices/chip.yaml")


def test_drafts_are_shown_with_their_model_number_and_acceptance(
    planner: Terminal, tmp_path: Path
) -> None:
    path = write_scenario(tmp_path)
    options = ("--profiles", tmp_path / "profiles")
    assert "Drafts" not in planner("show", path, *options).stdout
    said = "serving:\n  speculation: {draft_tokens: 3, at_most: true, acceptance: 0.6}\n"
    path.write_text(path.read_text() + said)
    assert "at most 3 for a check by looking up, 0.6 of them right" in (
        planner("show", path, *options).stdout
    )
    path.write_text(
        path.read_text().replace("at_most: true", "draft_token: 2 ms") + "draft: tiny\n"
    )
    assert "3 for a check by tiny, 0.6 of them right, 2 ms each" in (
        planner("show", path, *options).stdout
    )


def test_rates_keep_their_unit(planner: Terminal, tmp_path: Path) -> None:
    path = write_scenario(tmp_path)
    text = path.read_text().replace(
        "{kind: closed, concurrency: 2}", "{kind: poisson, rate: 3 req/s}"
    )
    path.write_text(text)
    assert (
        "poisson: rate 3 req/s" in planner("show", path, "--profiles", tmp_path / "profiles").stdout
    )


def test_a_manifest_is_shown_with_its_stages(planner: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    one = manifest()
    write_manifest(path, one)
    done = planner("show", path)
    assert done.code == 0
    stage = one.plan.pipelines[0].stages[1]
    assert f"{stage.start} to {stage.stop - 1}" in done.stdout
    assert planner("show", path, "--format", "json").document["plan"]["pipelines"]
