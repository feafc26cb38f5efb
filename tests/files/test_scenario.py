from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.core.errors import Exit, InvalidFileError, UsageError
from planner.files.scenario import Api, Scenario, load_scenario
from tests.files.world import SCENARIO, load, refused, write_scenario

DAMAGE = ["", "x", ": ", "- ", "{", "}", "[", "]", ", ", "9", "-", "null", "[]", "{}", "./", "a"]
NETWORK = "network:\n  default: lan\n"


def told(folder: Path, old: str, new: str) -> str:
    """What is said about the scenario with ``old`` replaced by ``new``, less the file's name."""
    assert old in SCENARIO
    problems = refused(folder, SCENARIO.replace(old, new))
    return "\n".join(str(problem).removeprefix(f"{folder}/tiny.yaml") for problem in problems)


def test_a_scenario_becomes_a_problem(tmp_path: Path) -> None:
    scenario = load(tmp_path)
    problem = scenario.problem
    assert [node.id for node in problem.cluster.nodes] == ["a", "b"]
    assert problem.cluster.node("b").usd_per_hour == 0.4
    assert problem.cluster.device("a").memory_bytes == 8 * 2**30
    link = problem.cluster.link("a", "b")
    assert link is not None
    assert (link.one_way_latency_s, link.bytes_per_s, link.jitter_s) == (1e-3, 125e6, 1e-4)
    assert (problem.model.id, problem.engine.id) == ("tiny", "soft")
    assert problem.cluster.coordinator == "a"
    assert {name: path.parent.name for name, path in scenario.sources.items()} == {
        "devices/chip": "devices",
        "engines/soft": "engines",
        "models/tiny": "models",
        "networks/lan": "networks",
        "quants/bf16": "quants",
    }


def test_the_seat_of_the_coordinator_may_be_left_to_the_plan(tmp_path: Path) -> None:
    replicas = SCENARIO.replace("  - id: b\n", "  - id: b\n    replicas: 2\n")
    for text, seats in (
        ("auto", ("a", "b-1", "b-2")),
        ("[b, a, b-1]", ("b-1", "b-2", "a")),
        ("[b-2]", ("b-2",)),
    ):
        cluster = load(tmp_path, replicas.replace("coordinator: a", f"coordinator: {text}")).problem
        assert cluster.cluster.seats == seats
        assert cluster.cluster.coordinator == seats[0]
    named = SCENARIO.replace("coordinator: a", "coordinator: auto").replace("id: b", "id: auto")
    assert load(tmp_path, named).problem.cluster.seats == ("auto",)


def test_strangers_see_prompts_only_where_they_are_named(tmp_path: Path) -> None:
    strange = SCENARIO.replace("  - id: b\n", "  - id: b\n    trust: unknown\n")
    auto = strange.replace("coordinator: a", "coordinator: auto")
    assert load(tmp_path, auto).problem.cluster.seats == ("a",)
    named = strange.replace("coordinator: a", "coordinator: [a, b]")
    assert load(tmp_path, named).problem.cluster.seats == ("a", "b")
    nobody = auto.replace("  - id: a\n", "  - id: a\n    trust: unknown\n")
    assert "coordinator: no node may see the prompts" in str(refused(tmp_path, nobody)[0])


def test_the_digest_depends_on_what_is_said_not_on_where_or_how(tmp_path: Path) -> None:
    digests = set()
    for name, text in (
        ("one", SCENARIO),
        ("two", SCENARIO.replace("coordinator: a\n", "")),
        ("three", "# a comment\n" + SCENARIO.replace("0.40 USD/h", "0.4 USD/h")),
        ("four", SCENARIO.replace("requests:", "requests:") + "\n\n"),
    ):
        (tmp_path / name).mkdir()
        digests.add(load(tmp_path / name, text).problem.digest)
    assert len(digests) == 1
    assert load(tmp_path, SCENARIO.replace("0.40", "0.41")).problem.digest not in digests


def test_a_scenario_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    stated = load(tmp_path).problem
    unnamed = load(tmp_path, SCENARIO.replace("name: tiny\n", "")).problem
    assert unnamed == stated


def test_replicas_are_machines_of_their_own(tmp_path: Path) -> None:
    text = SCENARIO.replace("  - id: b\n", "  - id: b\n    replicas: 3\n")
    text += "links:\n  - {between: [a, b], one_way_latency: 9 ms, bandwidth: 1 Mbit/s}\n"
    text += "  - {between: [b, b], one_way_latency: 5 ms, bandwidth: 1 Mbit/s}\n"
    cluster = load(tmp_path, text).problem.cluster
    assert [node.id for node in cluster.nodes] == ["a", "b-1", "b-2", "b-3"]
    for src, dst, latency_s in (("a", "b-3", 9e-3), ("b-2", "a", 9e-3), ("b-1", "b-2", 5e-3)):
        link = cluster.link(src, dst)
        assert link is not None
        assert link.one_way_latency_s == pytest.approx(latency_s)


def test_the_closest_line_wins_and_a_profile_may_be_refined(tmp_path: Path) -> None:
    text = SCENARIO.replace(
        NETWORK,
        "network:\n  default: {one_way_latency: 50 ms, bandwidth: 10 Mbit/s}\n"
        "  regions:\n    - {between: [eu, us], profile: lan, one_way_latency: 40 ms}\n"
        "    - {within: eu, profile: lan}\n"
        "links:\n  - {from: b, to: a, profile: lan, bandwidth: 2 Mbit/s}\n",
    )
    cluster = load(tmp_path, text).problem.cluster
    there, back = cluster.link("a", "b"), cluster.link("b", "a")
    assert there is not None
    assert back is not None
    assert (there.one_way_latency_s, there.bytes_per_s) == (40e-3, 125e6)
    assert (back.one_way_latency_s, back.bytes_per_s) == (1e-3, 2e6 / 8)


def test_cards_may_lie_beside_the_scenario(tmp_path: Path) -> None:
    write_scenario(tmp_path)
    chip = (tmp_path / "profiles/devices/chip.yaml").read_text()
    (tmp_path / "big.yaml").write_text(chip.replace("8 GiB", "80 GiB"))
    text = SCENARIO.replace("device: chip\n    region: us", "device: big.yaml\n    region: us")
    cluster = load(tmp_path, text).problem.cluster
    assert cluster.node("b").device == "big"
    assert cluster.device("b").memory_bytes == 80 * 2**30
    (tmp_path / "chip.yaml").write_text(chip.replace("8 GiB", "80 GiB"))
    clash = text.replace("big.yaml", "chip.yaml")
    assert "chip and chip.yaml are different cards of one name" in str(refused(tmp_path, clash)[0])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model: tiny", "model: tony", ":3:8: model: there is no model 'tony'; did you mean tiny?"),
        (
            "device: chip\n    region: us",
            "device: chop\n    region: us",
            ":12:13: nodes[1].device:",
        ),
        ("engine: soft", "engine: this-host", ":4:9: engine: there is no engine this-host yet"),
        ("[bf16]", "[bf16, bf17]", ":5:16: quants[1]: there is no quantization 'bf17'; did you"),
        ("[bf16]", "[bf16, bf16]", ":5:16: quants[1]: bf16 is named twice"),
        ("[bf16]", "[]", ":5:9: quants: must not be empty"),
        ("default: lan", "default: wan", ":16:12: network.default: there is no network 'wan'"),
        ("coordinator: a", "coordinator: c", ":6:14: coordinator: 'c' is no node"),
        ("coordinator: a", "coordinator: AUTO", "'AUTO' is no node; did you mean auto?"),
        ("coordinator: a", "coordinator: []", "coordinator: an empty list; name nodes in it"),
        ("- id: b", "- id: a", ":11:9: nodes[1].id: the id a is used twice"),
        ("- id: b", "- id: b c", ":11:9: nodes[1].id: 'b c' must be letters"),
        ("price:", "prise:", ":14:5: nodes[1].prise: unknown key; did you mean price?"),
        ("0.40 USD/h", "0.40", ":14:12: nodes[1].price: 0.4 has no unit; write it like"),
        ("0.40 USD/h", "-1 USD/h", ":14:12: nodes[1].price: '-1 USD/h' is negative"),
        ("0.40 USD/h", "4 GB", ":14:12: nodes[1].price: unit 'GB' does not fit here"),
        ("0.40 USD/h", ".nan", ":14:12: .nan is not a finite number"),
        ("0.40 USD/h", "nan", ":14:12: nodes[1].price: 'nan' is not a quantity"),
        ("region: us", "memory: -1 GiB", ":13:13: nodes[1].memory: '-1 GiB' is negative"),
        ("tokens: 100", "tokens: 1.5", ":19:33: workload.prompt.tokens: must be a whole number"),
        ("tokens: 100", "tokens: 1020", ":19:11: workload.prompt: requests of up to 1020 + 10"),
        ("tokens: 100", "tokens: 0100", ":19:33: 0100 means 100 to some programs"),
        ('"1.0"', '"2.0"', ":1:17: schema_version: 2.0 is no version this planner reads"),
        (NETWORK, "", ":7:1: nodes: no line leads from a to b"),
        ("chip\n    region: us", "odd\n    region: us", ":4:9: engine: engine soft has no"),
        ("[bf16]", "[bf16, int8]", ":5:16: quants[1]: engine soft on chip: no efficiency for int8"),
    ],
)
def test_each_mistake_is_told_at_its_place(old: str, new: str, said: str, tmp_path: Path) -> None:
    found = told(tmp_path, old, new)
    assert said in found, found


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ("{from: a, to: c, profile: lan}", "links[0].to: 'c' is no node"),
        ("{from: a, to: a, profile: lan}", "links[0].to: a link from a to itself"),
        ("{between: [a, a], profile: lan}", "links[0].between: a link from a to itself"),
        ("{from: a, profile: lan}", "links[0]: give either from: and to:, or between:"),
        ("{from: a, to: b, between: [a, b], profile: lan}", "links[0]: give either from: and to:"),
        ("{from: a, to: b}", "links[0]: give a profile, or one_way_latency and bandwidth"),
        ("{from: a, to: b, profile: lann}", "links[0].profile: there is no network 'lann'"),
        ("{between: [a, b, a], profile: lan}", "links[0].between: has more than 2 entries"),
        (
            "{from: a, to: b, one_way_latency: 1 ms, bandwidth: 0 MB/s}",
            "links[0].bandwidth: bandwidth must be above zero",
        ),
        (
            "{between: [a, b], profile: lan}\n  - {from: b, to: a, profile: lan}",
            "links[1]: the line from b to a is given twice",
        ),
    ],
)
def test_bad_links_are_told(links: str, said: str, tmp_path: Path) -> None:
    problems = refused(tmp_path, f"{SCENARIO}links:\n  - {links}\n")
    assert any(said in str(problem) for problem in problems), problems


def test_a_missing_line_is_named_with_the_mend(tmp_path: Path) -> None:
    text = SCENARIO.replace(NETWORK, "links:\n  - {from: a, to: b, profile: lan}\n")
    with pytest.raises(InvalidFileError) as caught:
        load(tmp_path, text)
    assert "tiny.yaml:15:1: links: no line leads from b to a" in caught.value.message
    assert "a to b" not in caught.value.message
    assert "network: {default: PROFILE}" in caught.value.hint


def test_only_machines_that_may_talk_need_lines(tmp_path: Path) -> None:
    text = SCENARIO.replace(NETWORK, "").replace("    region: us\n", "    region: us\n")
    text = text.replace("  - id: b\n    device: chip\n", "  - id: b\n")
    assert load(tmp_path, text).problem.cluster.coordinator == "a"
    none = text.replace("    device: chip\n", "")
    assert "no node has a device" in str(refused(tmp_path, none)[0])


def test_regions_must_exist(tmp_path: Path) -> None:
    text = SCENARIO + "must_have: {regions: [eu, uss], forbid_regions: [mars]}\n"
    (problem,) = refused(tmp_path, text)
    assert problem.path == "must_have.regions[1]"
    assert "no node is in region 'uss'; did you mean us?" in problem.message
    assert load(tmp_path, text.replace("uss", "us")).warnings == (
        "must_have.forbid_regions: no node is in region 'mars'",
    )
    region = SCENARIO.replace(NETWORK, NETWORK + "  regions:\n    - {within: euu, profile: lan}\n")
    assert "no node is in region 'euu'; did you mean eu?" in str(refused(tmp_path, region)[0])


def test_names_and_keys_are_told_together_scenario_first(tmp_path: Path) -> None:
    write_scenario(tmp_path)
    (tmp_path / "profiles/networks/lan.yaml").write_text("one_way_latency: 1\nbandwidth: 1 gbps\n")
    text = SCENARIO.replace("model: tiny", "model: tony").replace("price:", "prise:")
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    with pytest.raises(InvalidFileError) as caught:
        load_scenario(path, [tmp_path / "profiles"])
    places = [(Path(one.file).name, one.path) for one in caught.value.problems]
    assert places == [
        ("tiny.yaml", "model"),
        ("tiny.yaml", "nodes[1].prise"),
        ("lan.yaml", "as_of"),
        ("lan.yaml", "source"),
        ("lan.yaml", "one_way_latency"),
        ("lan.yaml", "bandwidth"),
    ]


def alternative(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.yaml").write_text(text)


def test_an_alternative_serves_the_same_model_and_requests(tmp_path: Path) -> None:
    other = SCENARIO.replace("name: tiny", "name: other").replace("tokens: 100", "tokens: 50")
    alternative(tmp_path, "other", other.replace("0.40 USD/h", "9 USD/h"))
    text = SCENARIO + "must_have: {mean_ttft: 1 s}\n"
    text += "alternatives:\n  - scenario: other.yaml\n  - api: {prices: shop}\n"
    scenario = load(tmp_path, text)
    found, api = scenario.alternatives
    assert isinstance(found, Scenario)
    assert found.name == "other"
    assert found.problem.workload == scenario.problem.workload
    assert found.problem.requirements == scenario.problem.requirements
    assert found.problem.cluster.node("b").usd_per_hour == 9
    assert isinstance(api, Api)
    assert (api.name, api.price.usd_per_output_token) == ("Shop tiny", 2e-6)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{scenario: absent.yaml}", "alternatives[0].scenario: "),
        ("{scenario: tiny.yaml}", "alternatives[0].scenario: cyclic: tiny.yaml -> tiny.yaml"),
        ("{scenario: loop.yaml}", "cyclic: tiny.yaml -> loop.yaml -> tiny.yaml"),
        ("{scenario: broken.yaml}", "broken.yaml:1:1: nodes: is missing"),
        ("{api: {prices: shop, model: tony}}", "shop has no price of tony; did you mean tiny?"),
        ("{api: {prices: shap}}", "there is no price list 'shap'; did you mean shop?"),
        (
            "{api: {prices: shop}, scenario: x.yaml}",
            "give one of scenario: FILE, api:, rent: and own:",
        ),
    ],
)
def test_bad_alternatives_are_told(entry: str, said: str, tmp_path: Path) -> None:
    alternative(tmp_path, "loop", SCENARIO + "alternatives: [{scenario: tiny.yaml}]\n")
    alternative(tmp_path, "broken", "name: broken\n")
    problems = refused(tmp_path, f"{SCENARIO}alternatives:\n  - {entry}\n")
    assert any(said in str(problem) for problem in problems), problems


@pytest.mark.alone
def test_many_alternatives_that_share_others_are_read_once(tmp_path: Path) -> None:
    for index in range(18):
        entries = f"[{{scenario: s{index + 1}.yaml}}, {{scenario: s{index + 1}.yaml}}]"
        more = f"alternatives: {entries}\n" if index < 17 else ""
        alternative(tmp_path, f"s{index}", SCENARIO + more)
    started = time.perf_counter()
    load(tmp_path, SCENARIO + "alternatives: [{scenario: s0.yaml}]\n")
    assert time.perf_counter() - started < 2


def test_run_says_what_to_execute(tmp_path: Path) -> None:
    run = load(tmp_path, SCENARIO + "run: {seeded: {seed: 7}}\n").run
    assert run is not None
    assert run.seeded is not None
    assert (run.seeded.seed, run.seeded.dtype, run.checkpoint) == (7, "bf16", None)
    (problem,) = refused(tmp_path, SCENARIO + "run: {}\n")
    assert "give either checkpoint: DIR or seeded" in problem.message


def nodes(count: int, bad: bool) -> str:
    price = "0.4" if bad else "0.4 USD/h"
    lines = [
        f"  - id: n{index}\n    device: chip\n    region: r{index % 10}\n"
        f"    price: {price}\n    memory: 8 GiB\n"
        for index in range(count)
    ]
    return "nodes:\n" + "".join(lines)


@pytest.mark.alone
@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("network", [NETWORK, "", "links:\n"])
def test_ten_thousand_lines_are_diagnosed_quickly(bad: bool, network: str, tmp_path: Path) -> None:
    start, end = SCENARIO.index("coordinator:"), SCENARIO.index("workload:")
    if network == "links:\n":
        network += "".join(f"  - {{between: [n0, n{i}], profile: lan}}\n" for i in range(1, 2000))
    text = SCENARIO[:start] + nodes(2000, bad) + network + SCENARIO[end:]
    path = write_scenario(tmp_path, text)
    started = time.perf_counter()
    if not bad and network == NETWORK:
        assert len(load_scenario(path, [tmp_path / "profiles"]).problem.cluster.nodes) == 2000
    else:
        with pytest.raises(InvalidFileError) as caught:
            load_scenario(path, [tmp_path / "profiles"])
        assert len(caught.value.problems) <= 51
        assert caught.value.exit_code == Exit.INVALID_FILE
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("device: chip\n    region: us", 'device: "a\\0b"\n    region: us', "there is no device"),
        ("model: tiny", f"model: {'x' * 5000}", "there is no model"),
        ("model: tiny", f"model: ./{'x' * 5000}", "does not exist"),
        ("region: us", "replicas: 1000000000", "must be at most 1000"),
    ],
)
def test_names_that_no_file_can_have_are_told(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    assert said in told(tmp_path, old, new)


@pytest.mark.parametrize("name", ['"a\\0b"', "x" * 5000, "loop"])
def test_alternatives_that_no_file_can_be_are_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (problem,) = refused(tmp_path, f"{SCENARIO}alternatives: [{{scenario: {name}}}]\n")
    assert "does not exist" in problem.message


def test_a_long_chain_of_alternatives_ends(tmp_path: Path) -> None:
    for index in range(400):
        other = f"alternatives: [{{scenario: s{index + 1}.yaml}}]\n"
        alternative(tmp_path, f"s{index}", SCENARIO + other)
    (problem,) = refused(tmp_path, SCENARIO + "alternatives: [{scenario: s0.yaml}]\n")
    assert "scenarios name each other" in problem.message


def test_links_of_many_replicas_are_bounded(tmp_path: Path) -> None:
    text = SCENARIO.replace("  - id: b\n", "  - id: b\n    replicas: 1000\n")
    (problem,) = refused(tmp_path, text + "links: [{between: [b, b], profile: lan}]\n")
    assert "use network.regions" in problem.message


def test_a_profiles_folder_that_does_not_exist_is_a_wrong_command_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no directory"):
        load_scenario(write_scenario(tmp_path), [tmp_path / "prfiles"])


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_damaged_scenario_is_refused_never_a_crash(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = (
        SCENARIO.replace(NETWORK, NETWORK + "  regions: [{between: [eu, us], profile: lan}]\n")
        + "links: [{from: a, to: b, profile: lan}]\nmust_have: {mean_ttft: 1 s}\n"
        + "alternatives: [{api: {prices: shop}}]\nserving: {max_num_seqs: 4}\n"
    ).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        line, damage = lines[index], data.draw(st.sampled_from(DAMAGE))
        at = data.draw(st.integers(0, len(line)))
        lines[index] = line[:at] + damage + line[at + data.draw(st.integers(0, 8)) :]
    with suppress(InvalidFileError):
        load(tmp_path_factory.getbasetemp(), "\n".join(lines))
