"""A SettingError has fields, and its text is one sentence of them."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
from refusals import UPDATE, refused

from grpo_colab.errors import SettingError, one_of


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"problem": "no GPU here"}, "no GPU here"),
        ({"setting": "lora.r", "value": 0, "problem": "must be 1 or more"}, "lora.r = 0: must be 1 or more"),
        ({"setting": "--resume", "problem": "no such run", "remedy": "name one"}, "--resume: no such run; name one"),
        ({"setting": "a.b", "value": None, "problem": "is empty"}, "a.b = None: is empty"),
        ({"place": "mine.toml, line 3", "setting": "a.b", "value": "x"}, "mine.toml, line 3: a.b = 'x'"),
        ({"setting": "a.b", "value": True, "problem": "is not allowed"}, "a.b = true: is not allowed"),  # as in TOML
        ({"setting": "partial", "value": True, "problem": "is not allowed"}, "partial = True: is not allowed"),
        ({"problem": "key hf_" + "a" * 30}, "key hf_..."),
    ],
)
def test_its_text_is_a_sentence_of_its_fields(fields: dict[str, object], sentence: str) -> None:
    error = SettingError(**fields)  # type: ignore[arg-type]
    assert str(error) == sentence
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(twin) == sentence
        assert vars(twin) == vars(error)


SENTENCES = Path(__file__).with_name("sentences.txt").read_text().splitlines()


@pytest.mark.parametrize("begins", ["There are", "A setting is", "Or write"])
def test_a_sentence_ends_before_the_next_begins(begins: str) -> None:
    """In every refusal that the tests have met: a capital comes after a full stop or a question mark."""
    said = [sentence for sentence in SENTENCES if begins in sentence]
    assert said
    assert [sentence for sentence in said if not re.search(rf"[.?] {begins}\b", sentence)] == []


SECRET = "S3cretSecretXYZ" * 8


@pytest.mark.parametrize("before", [0, 20, 94, 150, 5000])
@pytest.mark.parametrize("after", [0, 66, 5000])
@pytest.mark.parametrize("head", ["?token=", " hf_"])
def test_no_part_of_a_secret_is_left_by_the_cut_of_a_long_value(before: int, after: int, head: str) -> None:
    value = "a" * before + head + SECRET + "&" + "b" * after
    for written in (value, [value], {"key": [value]}):
        error = SettingError("is unknown", setting="model.model_name", value=written)
        assert not any(SECRET[at : at + 5] in str(error) for at in range(15)), str(error)


@pytest.mark.parametrize(
    "asked",
    [
        {"setting": "lora.alpha"},
        {"setting": "lora.r", "value": 1},
        {"remedy": "2 or more"},
        {"problem": "is text"},
        {"place": "mine.toml"},
        {"place": None},
    ],
)
def test_another_field_fails_the_assertion(asked: dict[str, object]) -> None:
    with pytest.raises(AssertionError), refused(**asked, snapshot=False):  # type: ignore[arg-type]
        raise SettingError("must be positive", setting="lora.r", value=0, remedy="1 or more", place="other.toml")


def test_another_sentence_than_in_the_snapshot_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("lora.r", 0, remedy="1 or more"):
        raise SettingError("must be positive", setting="lora.r", value=0, remedy="write 1 or more")
    monkeypatch.delenv(UPDATE, raising=False)
    with pytest.raises(AssertionError, match="--update-sentences"), refused("lora.r"):
        raise SettingError("not in the snapshot", setting="lora.r")


class _Stopped(SettingError):
    def __init__(self, problem: str, record: dict[str, int]) -> None:
        super().__init__(problem, setting="lora.r", value=0, remedy="1 or more")
        self.record = record


def test_a_copy_at_a_place_keeps_class_and_fields() -> None:
    error = _Stopped("must be positive", {"step": 3})
    twin = error.at("mine.toml, line 3")
    assert (type(twin), twin.record, twin.problem, twin.setting) == (
        _Stopped,
        {"step": 3},
        "must be positive",
        "lora.r",
    )
    assert str(twin) == "mine.toml, line 3: lora.r = 0: must be positive; 1 or more"
    assert str(twin.at("runs/a")) == "runs/a: mine.toml, line 3: lora.r = 0: must be positive; 1 or more"
    assert str(error) == "lora.r = 0: must be positive; 1 or more"
    assert error.place is None


def test_a_copy_with_other_fields() -> None:
    error = SettingError("must be text")
    assert not error.replace(setting="a.b").has_value
    assert str(error.replace(setting="a.b", value=None)) == "a.b = None: must be text"
    assert str(error.replace(remedy="write hf_" + "a" * 30)) == "must be text; write hf_..."


def test_what_a_name_could_have_been() -> None:
    assert one_of("lorra", ["lora", "grpo"]) == "did you mean 'lora'? There are: lora, grpo"
    assert one_of("x", ["lora", "grpo"]) == "there are: lora, grpo"
