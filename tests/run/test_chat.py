from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.core.errors import InvalidFileError
from planner.run.chat import chat_template

TURNS = [("system", "Be brief."), ("user", "Hello")]


def templated(folder: Path, template: object, **more: object) -> Path:
    values = {"chat_template": template, **more}
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    return folder


def test_without_a_template_turns_are_lines(tmp_path: Path) -> None:
    assert chat_template(tmp_path)(TURNS) == "system: Be brief.\nuser: Hello\nassistant:"


def test_the_models_own_template(tmp_path: Path) -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    for kept in (
        source,
        [{"name": "tool", "template": "x"}, {"name": "default", "template": source}],
    ):
        render = chat_template(templated(tmp_path, kept, bos_token={"content": "<s>"}))
        assert render(TURNS) == "<s>[system]Be brief.[user]Hello[assistant]"


def test_what_templates_count_on(tmp_path: Path) -> None:
    turns = "{% for one in messages %}{{ one | tojson }}{% break %}{% endfor %}"
    source = "{{ strftime_now('%Y')[:2] }} " + turns
    said = chat_template(templated(tmp_path, source))([("user", "<é>"), ("user", "b")])
    assert said == '20 {"role": "user", "content": "<é>"}'


@pytest.mark.parametrize("source", ["{{ messages[0].content + 1 }}", "{{ 1 / 0 }}"])
def test_a_template_that_stumbles(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match="refuses"):
        chat_template(templated(tmp_path, source))(TURNS)


def test_a_template_that_refuses(tmp_path: Path) -> None:
    source = "{{ raise_exception('only users') }}"
    with pytest.raises(ValueError, match="only users"):
        chat_template(templated(tmp_path, source))(TURNS)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% for x in messages.append(1) %}{% endfor %}",
    ],
)
def test_a_template_reaches_nothing_but_the_conversation(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match="refuses"):
        chat_template(templated(tmp_path, source))(TURNS)


@pytest.mark.parametrize("text", ["{", '{"chat_template": "{% for %}"}', "[" * 10_000])
def test_a_configuration_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(InvalidFileError):
        chat_template(tmp_path)
