import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from planner.receipts.tree import Tree, Witness, WitnessError, leaf


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40))
def test_root_is_that_of_another_implementation(entries: list[bytes]) -> None:
    other = InmemoryTree(algorithm="sha256")
    tree = Tree()
    for entry in entries:
        other.append_entry(entry)
        tree.append(other.get_leaf(tree.count + 1))
    assert tree.root == other.get_root()


@pytest.mark.parametrize(
    "other",
    [
        ("t", 1, 2, "bfloat16", (4,), b"payload"),
        ("s", 2, 2, "bfloat16", (4,), b"payload"),
        ("s", 1, 3, "bfloat16", (4,), b"payload"),
        ("s", 1, 2, "float32", (4,), b"payload"),
        ("s", 1, 2, "bfloat16", (2, 2), b"payload"),
        ("s", 1, 2, "bfloat16", (4,), b"paylobd"),
    ],
)
def test_everything_about_a_row_is_in_its_leaf(other: tuple) -> None:
    assert leaf("s", 1, 2, "bfloat16", (4,), b"payload") != leaf(*other)


def test_a_step_sent_again_changes_nothing() -> None:
    once, twice = Witness("s", 1), Witness("s", 1)
    for position in range(5):
        once.see(position, "int32", (1,), bytes([position] * 4))
        assert twice.see(position, "int32", (1,), bytes([position] * 4))
        assert not twice.see(position // 2, "int32", (1,), b"else")
    assert once.tree.root == twice.tree.root


def test_a_skipped_position_is_an_error() -> None:
    with pytest.raises(WitnessError, match="from position 0 to 2"):
        Witness("s", 1).see(2, "int32", (1,), bytes(4))
