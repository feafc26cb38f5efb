from __future__ import annotations

from planner.run.frames import Frame, Kind, Seat
from planner.run.history import History


def sent(job: int, *parts: tuple[int, int, int, bytes]) -> Frame:
    """A job with, for each sequence, its slot, its session, its position and a byte per token."""
    seats = tuple(
        Seat(slot, position, tokens=len(rows), session=session)
        for slot, session, position, rows in parts
    )
    payload = b"".join(rows for *_, rows in parts)
    kind = Kind.DECODE if len(parts) > 1 else Kind.PREFILL
    return Frame(kind, job, seats, "bytes", len(payload), 1, payload)


def noted(*frames: Frame) -> History:
    history = History()
    for frame in frames:
        history.note(frame)
    return history


TWO = (
    sent(1, (0, 10, 0, b"abc")),
    sent(2, (1, 11, 0, b"mn")),
    sent(3, (0, 10, 3, b"d"), (1, 11, 2, b"o")),
    sent(4, (0, 10, 4, b"e"), (1, 11, 3, b"p")),
)


def told(frames: list[Frame]) -> list[tuple[int, bytes]]:
    assert all(frame.replay for frame in frames)
    return [(frame.seats[0].session, bytes(frame.payload)) for frame in frames]


def test_each_sequence_comes_as_one_prompt_up_to_what_is_wanted() -> None:
    history = noted(*TWO)
    assert told(history.replay([(0, 10, 5), (1, 11, 3)], as_sent=False)) == [
        (10, b"abcde"),
        (11, b"mno"),
    ]
    (frame,) = history.replay([(1, 11, 3)], as_sent=False)
    assert frame.seats == (Seat(1, 0, tokens=3, session=11),)
    assert frame.kind is Kind.PREFILL


def test_as_sent_repeats_the_very_frames_in_their_order() -> None:
    frames = noted(*TWO).replay([(1, 11, 3), (0, 10, 4)], as_sent=True)
    assert frames == [frame._replace(replay=True) for frame in TWO[:3]]


def test_a_repeated_step_counts_once() -> None:
    history = noted(*TWO, sent(9, (0, 10, 4, b"e"), (1, 11, 3, b"p")))
    assert told(history.replay([(0, 10, 5)], as_sent=False)) == [(10, b"abcde")]
    assert [frame.job for frame in history.replay([(0, 10, 5)], as_sent=True)] == [1, 3, 9]


def test_a_later_start_replaces_the_tail_that_was_not_taken() -> None:
    history = noted(sent(1, (0, 10, 0, b"ab")), sent(2, (0, 10, 2, b"xyz")))
    history.note(sent(3, (0, 10, 3, b"c")))
    assert told(history.replay([(0, 10, 4)], as_sent=False)) == [(10, b"abxc")]


def test_who_takes_a_seat_ends_the_history_of_who_had_it() -> None:
    history = noted(*TWO, sent(5, (0, 12, 0, b"q")))
    assert told(history.replay([(0, 12, 1), (0, 10, 5)], as_sent=False)) == [(12, b"q")]
    assert history.replay([(0, 10, 5)], as_sent=True) == []
