"""Traces in the formats in which they are published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner.core.errors import InvalidFileError
from planner.core.workload import Request
from planner.files.trace import Trace, read_trace, thickened

FORMATS = {
    "own": "# made up\narrival_s,prompt_tokens,output_tokens\n1.5,10,5\n2.0,20,6\n",
    "short": "t_s,in_tokens,out_tokens\n1.5,10,5\n2.0,20,6\n",
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.5000000,10,5\n2023-11-16 18:17:04.0000000,20,6\n",
    "azure 2024": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.500000+00:00,10,5\n2024-05-10 00:00:01+00:00,20,6\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,10,5,15,Conversation log\n5.5,ChatGPT,20,6,26,API log\n",
    "mooncake": '{"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": [1]}\n'
    '{"timestamp": 500, "input_length": 20, "output_length": 6, "hash_ids": [1, 2]}\n',
}

OWN = "t_s,in_tokens,out_tokens\n"
BLOCKS = '{"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": %s}\n'


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_requests(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    found = [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in read_trace(path).requests]
    assert found == [(0.0, 10, 5), (0.5, 20, 6)]


def test_a_trace_can_come_faster_and_in_part(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(FORMATS["own"])
    assert [request.arrival_s for request in read_trace(path, speed=2).requests] == [0.0, 0.25]
    assert len(read_trace(path, most=1).requests) == 1


def conversations(tmp_path: Path, text: str) -> list[tuple[int | None, int]]:
    """Conversation and shared tokens of every request."""
    path = tmp_path / "trace"
    path.write_text(text)
    return [(one.session, one.shared_tokens) for one in read_trace(path).requests]


def test_turns_of_a_conversation_share_what_was_said(tmp_path: Path) -> None:
    """A prompt that is no longer than what was said does not begin with it."""
    own = "arrival_s,prompt_tokens,output_tokens,session\n"
    rows = "0,100,10,u\n1,50,5,v\n2,130,20,u\n3,140,5,u\n4,7,1,\n5,146,5,u\n"
    expected = [(0, 0), (1, 0), (0, 110), (0, 0), (None, 0), (0, 145)]
    assert conversations(tmp_path, own + rows) == expected
    assert conversations(tmp_path, own + "0,100,10\n1,130,10\n") == [(None, 0), (None, 0)]
    burst = "Timestamp,Session ID,Request tokens,Response tokens\n"
    rows = "0,7,100,10\n1,8,50,5\n2,7,130,20\n"
    assert conversations(tmp_path, burst + rows) == [(0, 0), (1, 0), (0, 110)]


def test_prompts_that_begin_with_the_blocks_of_another_continue_it(tmp_path: Path) -> None:
    prompts = [
        (1100, [1, 2, 3]),  # two whole blocks and the beginning of a third
        (1100, [1, 8, 9]),  # the first block alone is another's, too
        (1700, [1, 2, 4, 5]),
        (1600, [1, 8, 10, 11]),
        (300, [20]),
        (1700, [1, 2, 6, 7]),
    ]
    text = "".join(
        f'{{"timestamp": {index}, "input_length": {tokens}, "output_length": 5, '
        f'"hash_ids": {hashes}}}\n'
        for index, (tokens, hashes) in enumerate(prompts)
    )
    assert conversations(tmp_path, text) == [
        (0, 0),
        (1, 0),
        (0, 1024),
        (1, 1024),
        (4, 0),
        (0, 1024),
    ]


def test_copies_of_a_conversation_are_another_one() -> None:
    requests = tuple(Request(index, index, 10, 5, index % 2, shared_tokens=3) for index in range(4))
    found = thickened(Trace(requests, 0), 2.0, 0).requests
    assert sorted(one.session for one in found if one.session is not None) == [
        0, 0, 1, 1, 4, 4, 5, 5
    ]  # fmt: skip


def test_rows_without_an_answer_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(FORMATS["own"] + "3.0,7,0\n")
    assert read_trace(path).left_out == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "trace:2: columns are not those of a known format"),
        (OWN + "soon,1,1\n", "trace:2: t_s: cannot be read from 'soon'"),
        (OWN + "0,1,1\nnan,1,1\n", "trace:3: t_s: cannot be read from 'nan'"),
        (OWN + "0,inf,1\n", "trace:2: in_tokens: cannot be read from 'inf'"),
        (OWN + "0,1.5,1\n", "trace:2: in_tokens: must be a whole number of tokens, not '1.5'"),
        (OWN + "0,5,-1\n", "trace:2: out_tokens: must be a whole number of tokens, not '-1'"),
        (OWN + "0,5\n", "trace:2: out_tokens: is missing"),
        (OWN, "has no requests$"),
        (OWN + "0,0,1\n", "has no requests, only 1 rows without prompt or answer"),
        ("{nonsense\n", "trace:1: cannot be read"),
        (BLOCKS % "[1]" + "{nonsense\n", "trace:2: cannot be read"),
        (BLOCKS % "[1]" + "[1]\n", "trace:2: must be keys and values in braces"),
        (BLOCKS % "5", "trace:1: hash_ids: must be a list of whole numbers, not 5"),
        (BLOCKS % '["x"]', "trace:1: hash_ids: must be a list of whole numbers"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(InvalidFileError, match=said):
        read_trace(path)


def test_the_azure_conversation_trace_is_read() -> None:
    data = Path(os.environ.get("PLANNER_TEST_DATA", "../shared/data"))
    path = data / "traces" / "azure2023_conv.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    assert len(read_trace(path).requests) == 19_366


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5])
def test_more_or_fewer_requests_come_in_the_same_time(factor: float) -> None:
    """Bursts stay bursts: every second has its share of the requests."""
    times_s = [index * 0.01 for index in range(1000)] + [20 + index * 0.1 for index in range(1000)]
    requests = tuple(Request(index, at_s, 10, index + 1) for index, at_s in enumerate(times_s))
    scaled = thickened(Trace(requests, 3), factor, 1)
    assert scaled.left_out == 3
    found = [one.arrival_s for one in scaled.requests]
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] <= times_s[-1]
    assert [one.id for one in scaled.requests] == list(range(len(found)))
    assert sum(at_s < 20 for at_s in found) == pytest.approx(1000 * factor, rel=0.12)
    assert sum(at_s >= 20 for at_s in found) == pytest.approx(1000 * factor, rel=0.12)
    assert scaled == thickened(Trace(requests, 3), factor, 1)
    if factor == 1.0:
        assert scaled.requests == requests


def test_one_request_is_left_at_least() -> None:
    requests = (Request(0, 0.0, 10, 5), Request(1, 1.0, 10, 5))
    assert len(thickened(Trace(requests, 0), 1e-6, 0).requests) == 1
