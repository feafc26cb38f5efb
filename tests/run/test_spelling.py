from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from planner.run.seeded import make_checkpoint
from planner.run.spelling import Spelling
from tests.run.world import spec


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = make_checkpoint(tmp_path_factory.mktemp("spelling") / "model", spec(), dtype="fp32")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def spelt(tokenizer: Tokenizer, text: str, *stops: str) -> tuple[list[str], bool]:
    spelling = Spelling(tokenizer, stops)
    pieces = [spelling.add(token) for token in tokenizer.encode(text).ids]
    return [*pieces, spelling.end()], spelling.stopped


def test_pieces_make_the_text(tokenizer: Tokenizer) -> None:
    pieces, stopped = spelt(tokenizer, "one, two and three")
    assert "".join(pieces) == "one, two and three"
    assert not stopped


@pytest.mark.parametrize(
    ("stops", "left"),
    [
        (["two"], "one, "),
        (["three", "and"], "one, two "),
        (["o and"], "one, tw"),
        (["four"], "one, two and three"),
        (["threes"], "one, two and three"),
        (["one"], ""),
        (["e"], "on"),
    ],
)
def test_text_ends_before_the_first_stop_string(
    tokenizer: Tokenizer, stops: list[str], left: str
) -> None:
    pieces, stopped = spelt(tokenizer, "one, two and three", *stops)
    assert "".join(pieces) == left
    assert stopped == (left != "one, two and three")


def test_what_may_begin_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    spelling = Spelling(tokenizer, ["abc"])
    told = ["".join(spelling.add(t) for t in tokenizer.encode(one).ids) for one in ("xa", "b", "d")]
    assert told == ["x", "", "abd"]


def test_an_unfinished_character_is_told_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("é").ids
    assert len(ids) == 2
    spelling = Spelling(tokenizer)
    assert spelling.add(ids[0]) == ""
    assert spelling.end() == tokenizer.decode(ids[:1]) == "\ufffd"
