from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from planner.core.errors import InvalidFileError, RunError
from planner.run.checkpoint import open_checkpoint, shapes_of
from planner.run.seeded import make_checkpoint
from tests.run.world import checkpoint, spec


def test_a_seeded_checkpoint_is_whole_and_the_same_every_time(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "a")
    second = checkpoint(tmp_path / "b")
    assert set(first.entries) == set(shapes_of(first.config))
    for name in first.entries:
        assert torch.equal(first.tensor(name), second.tensor(name))
    other = open_checkpoint(make_checkpoint(tmp_path / "c", spec(), seed=1, dtype="fp32"))
    assert not torch.equal(
        first.tensor("model.embed_tokens.weight"), other.tensor("model.embed_tokens.weight")
    )


def test_a_checkpoint_that_matches_is_kept_and_another_seeded_one_replaced(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "m", spec())
    before = (path / "model.safetensors").stat().st_mtime_ns
    make_checkpoint(path, spec())
    assert (path / "model.safetensors").stat().st_mtime_ns == before
    cut(path)
    assert make_checkpoint(path, spec()) == path
    make_checkpoint(path, spec(hidden_size=128))
    assert open_checkpoint(path).config.hidden_size == 128
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize("name", ["notes.txt", "config.json"])
def test_what_somebody_else_put_there_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(RunError, match="something else"):
        make_checkpoint(tmp_path, spec())
    with pytest.raises(RunError, match="something else"):
        make_checkpoint(tmp_path / name, spec())
    assert (tmp_path / name).read_text() == "{}"


def test_nothing_half_made_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        make_checkpoint(tmp_path / "m", spec())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes", [{"model_type": "gemma2"}, {"vocab_size": 100}], ids=["family", "vocabulary"]
)
def test_a_shape_the_runtime_cannot_make(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(RunError):
        make_checkpoint(tmp_path / "m", spec(**changes))


def test_the_tokenizer_round_trips_text_and_names_every_token(tmp_path: Path) -> None:
    opened = checkpoint(tmp_path)
    tokenizer = opened.tokenizer()
    ids = tokenizer.encode("Grüße, world!\n").ids
    assert tokenizer.decode(ids) == "Grüße, world!\n"
    assert tokenizer.get_vocab_size() == opened.config.vocab_size
    assert tokenizer.decode([opened.config.vocab_size - 1]).strip()


def drop_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def drop_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def cut(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def cut_header(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])


def empty(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def huge_header(path: Path) -> None:
    (path / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def odd_header(path: Path) -> None:
    header = b'{"a": {"shape": [1]}}'
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def missing_tensor(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, path / "model.safetensors")


def wrong_shape(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(65)
    save_file(tensors, path / "model.safetensors")


def wrong_dtype(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(64, dtype=torch.int8)
    save_file(tensors, path / "model.safetensors")


def index_of_absent_file(path: Path) -> None:
    content = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(content))


def odd_index(path: Path) -> None:
    (path / "model.safetensors.index.json").write_text("{}")


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (drop_tokenizer, "tokenizer.json"),
    (drop_weights, "no *.safetensors"),
    (cut, "cut short by 100 bytes"),
    (cut_header, "header is cut short"),
    (empty, "model.safetensors"),
    (huge_header, "header is cut short"),
    (odd_header, "model.safetensors"),
    (missing_tensor, "model.layers.2.mlp.up_proj.weight"),
    (wrong_shape, "[65], config.json says [64]"),
    (wrong_dtype, "I8"),
    (index_of_absent_file, "model-00002-of-00002.safetensors"),
    (odd_index, "weight_map"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGE, ids=[d.__name__ for d, _ in DAMAGE])
def test_a_damaged_checkpoint_says_what_is_wrong(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    path = make_checkpoint(tmp_path / "m", spec())
    damage(path)
    with pytest.raises(InvalidFileError) as caught:
        open_checkpoint(path)
    assert said in str(caught.value)


def test_a_tokenizer_that_is_none(tmp_path: Path) -> None:
    opened = checkpoint(tmp_path)
    (opened.directory / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidFileError, match=r"tokenizer\.json"):
        opened.tokenizer()


def test_weights_split_over_indexed_files(tmp_path: Path) -> None:
    opened = checkpoint(tmp_path)
    tensors = load_file(opened.directory / "model.safetensors")
    (opened.directory / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, opened.directory / file)
    weight_map = {name: file for file, chosen in parts.items() for name in chosen}
    index = opened.directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    again = open_checkpoint(opened.directory)
    assert all(torch.equal(again.tensor(name), tensors[name]) for name in names)
