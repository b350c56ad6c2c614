"""From a name to a reward function, and what is said when it cannot be."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import rewards
from grpo_colab.rewards import check_signature, correctness_reward, resolve_reward, reward_name, strict_format_reward
from grpo_colab.rewards.names import split_names

SETTINGS = {
    "get_cosine_scaled_reward": "max_len=40",
    "get_soft_overlong_punishment_reward": "max_completion_len=40, soft_punish_cache=30",
}
OWN = "def brevity_reward(completions, **kwargs):\n    return [1 / (1 + len(c)) for c in completions]\nLIMIT = 3\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my_rewards.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize(
    "name",
    [name for name in rewards.__all__ if name.endswith("_reward") and name not in ("call_reward", "resolve_reward")],
)
def test_every_reward_has_a_short_name(name: str) -> None:
    function = getattr(rewards, name)
    if name.startswith("get_"):
        short, settings = name.removeprefix("get_").removesuffix("_reward"), SETTINGS.get(name, "")
        made = resolve_reward(f"{short}({settings})")
        assert reward_name(made) == short
        assert made.settings == resolve_reward(f"grpo_colab.rewards.{name}({settings})").settings
        return
    assert resolve_reward(name) is resolve_reward(name.removesuffix("_reward")) is function
    assert resolve_reward(f"grpo_colab.rewards.{name}") is function
    assert reward_name(function) == name.removesuffix("_reward")


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("correctness", "correctness(answer_in='boxed', locale='de')"),
        ("soft_correctness", "soft_correctness(answer_in='boxed', locale='de')"),
        ("exact_answer_reward", "exact_answer(answer_in='boxed')"),
        ("integer", "integer(answer_in='boxed', locale='de')"),
        ("math", "math(answer_in='boxed', locale='de')"),
        ("length", "length(answer_in='boxed', locale='de')"),
        ("length(grader='math')", "length(grader='math', answer_in='boxed', locale='de')"),
        ("cosine_scaled(max_len=9)", "cosine_scaled(max_len=9, answer_in='boxed', locale='de')"),
        # brackets win
        ("correctness(answer_in='hash')", "correctness(answer_in='hash', locale='de')"),
        ("integer(locale='en')", "integer(answer_in='boxed', locale='en')"),
    ],
)
def test_a_reward_follows_its_task_but_for_what_its_brackets_set(name: str, same_as: str) -> None:
    made, same = resolve_reward(name, {"answer_in": "boxed", "locale": "de"}), resolve_reward(same_as)
    assert repr(made) == repr(same)
    assert repr(made) != repr(resolve_reward(name))
    assert repr(pickle.loads(pickle.dumps(made))) == repr(made)


@pytest.mark.parametrize("name", ["strict_format", "reasoning_steps", "grpo_colab.rewards.correctness_reward"])
def test_what_has_no_such_settings_and_what_is_named_by_its_path_follow_no_task(name: str) -> None:
    assert resolve_reward(name, {"answer_in": "boxed", "locale": "de"}) is resolve_reward(name)
    assert resolve_reward("correctness", {}) is correctness_reward


def test_a_file_of_ones_own(own: Path) -> None:
    function = resolve_reward(f"{own}:brevity_reward")
    assert function(completions=["", "x"]) == [1.0, 0.5]
    assert reward_name(function) == "brevity"
    assert pickle.loads(pickle.dumps(function)) is function
    own.write_text(OWN.replace("1 /", "2 /"))
    assert resolve_reward(f"{own}:brevity_reward")(completions=[""]) == [2.0]


def test_brackets_in_a_path_are_no_settings(own: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy (1)" / own.name
    copy.parent.mkdir()
    copy.write_text(OWN + "def get_scaled_reward(by, at=':'):\n    return lambda completions, **kwargs: [by] * 2\n")
    assert resolve_reward(f"{copy}:brevity_reward")(completions=[""]) == [1.0]
    assert resolve_reward(f"{copy}:get_scaled_reward(by=(1, 2), at='a.py:b')")(completions=[]) == [(1, 2)] * 2


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        (" a , b(x=1, y='p,q)') ,c", ["a", "b(x=1, y='p,q)')", "c"]),
        ("r.py:f(a=1,b=(2,3)),d (1)/r.py:g", ["r.py:f(a=1,b=(2,3))", "d (1)/r.py:g"]),
        (",", []),
    ],
)
def test_names_are_parted_at_commas_outside_of_brackets_and_quotes(text: str, names: list[str]) -> None:
    assert split_names(text) == names


def test_files_of_one_name_in_two_folders(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / own.name
    other.parent.mkdir()
    other.write_text(OWN)
    first, second = (resolve_reward(f"{path}:brevity_reward") for path in (own, other))
    assert pickle.loads(pickle.dumps(first)) is first
    assert pickle.loads(pickle.dumps(second)) is second


def test_a_module_of_ones_own(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(own.parent)
    assert resolve_reward("my_rewards.brevity_reward")(completions=[""]) == [1.0]


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("corectness", "no reward 'corectness'", "did you mean 'correctness'"),
        ("strict_fromat_reward", "no reward 'strict_fromat_reward'", "did you mean 'strict_format'"),
        ("zzz", "no reward 'zzz'", "there are correctness, cosine_scaled, exact_answer, integer"),
        ("", "no reward ''", "package.module.function, or path/to/file.py:function"),
        ("no_such_module.f", "'no_such_module' does not import: ModuleNotFoundError: No module named", None),
        ("json.nope", "'json' has no 'nope'", None),
        ("json.lods", "'json' has no 'lods'", "did you mean 'loads'"),
        ("json.", "'json' has no ''", None),
        ("..x", "does not import", None),
        ("json.__name__", "'__name__' in 'json' is of type str, not a function", None),
        ("no/such/file.py:f", "no/such/file.py' does not import: FileNotFoundError", None),
        ("{own}:LIMIT", "my_rewards.py' is of type int, not a function", None),
        ("{own}:brevty_reward", "has no 'brevty_reward'", "did you mean 'brevity_reward'"),
        ("{own}:", "has no ''", None),
        ("cosine_scaled", "'cosine_scaled' with no settings: TypeError: ", None),
        ("cosine_scaled(max_lne=3)", "unexpected keyword argument 'max_lne'", None),
        ("cosine_scaled(512)", "the settings of 'cosine_scaled(512)'", "cosine_scaled(max_len=512)"),
        ("cosine_scaled(max_len=print(1))", "the settings of 'cosine_scaled(", "write them as in"),
        ("cosine_scaled(max_len=1", "the settings of 'cosine_scaled(", "write them as in"),
        ("correctness(a=1)", "unexpected keyword argument 'a'", None),
        ("integer(answer_in='a b')", "cannot work", "or the name of a tag"),
        ("json.dumps(obj=1)", "'json.dumps' has settings, and only a factory", "name it get_..._reward"),
    ],
)
def test_what_is_wrong_with_a_name_is_said_in_one_line(name: str, problem: str, remedy: str | None, own: Path) -> None:
    with refused("answer_in" if "answer_in" in name else None, problem=problem, remedy=remedy) as caught:
        resolve_reward(name.format(own=own))
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_setting_names_the_setting() -> None:
    with refused("max_len", 0, remedy="write a number of tokens, 1 or more"):
        resolve_reward("cosine_scaled(max_len=0)")


@pytest.mark.parametrize(
    "line", ["1 / 0", "def broken(", "raise SystemExit(3)", "import no_such_module", "raise KeyError('a\\nb')"]
)
def test_a_file_that_fails_is_named_with_its_error(line: str, own: Path) -> None:
    own.write_text(line)
    with refused(None, problem="my_rewards.py' does not import: ", snapshot=False) as caught:  # in Python's own words
        resolve_reward(f"{own}:brevity_reward")
    assert "\n" not in str(caught.value)


def everything(prompts, completions, completion_ids, answer, trainer_state, log_extra, log_metric): ...
def keywords_only(*, completions, answer, **kwargs): ...
def kwargs_only(**kwargs): ...
def optional(completions, level=1, *args, **kwargs): ...


class Grader:
    def __call__(self, completions, answer, **kwargs): ...


def needs_level(completions, level, **kwargs): ...
def wants_prompt(completions, prompt, **kwargs): ...
def by_position(completions, /, **kwargs): ...
def no_kwargs(completions, answer): ...
def no_completions(prompts, completion_ids, answer, trainer_state, log_extra, log_metric): ...


@pytest.mark.parametrize(
    "function",
    [correctness_reward, strict_format_reward, everything, keywords_only, kwargs_only, optional, Grader()],
)
def test_signatures_that_trl_can_call(function) -> None:
    check_signature(function, ["prompt", "answer"])


def test_a_partial_that_supplies_the_column() -> None:
    function = functools.partial(needs_level, level=3)
    check_signature(function, ["prompt"])
    assert reward_name(function) == "needs_level"
    assert reward_name(Grader()) == "Grader"


@pytest.mark.parametrize(
    ("function", "problem", "remedy"),
    [
        (needs_level, "needs_level needs a column 'level'", "the columns are answer, difficulty"),
        (wants_prompt, "wants_prompt needs a column 'prompt'", "the columns are"),
        (by_position, "by_position takes 'completions' by position only", None),
        (no_kwargs, "no_kwargs must accept completion_ids, difficulty, log_extra, log_metric, prompts", "add **kwargs"),
        (no_completions, "no_completions must accept completions, difficulty", "add **kwargs"),
    ],
)
def test_signatures_that_trl_cannot_call(function, problem: str, remedy: str | None) -> None:
    with refused(None, problem=problem, remedy=remedy) as caught:
        check_signature(function, {"prompt", "answer", "difficulty"})
    assert "\n" not in str(caught.value)


def test_without_columns() -> None:
    with refused(None, problem="correctness_reward needs a column 'answer'", remedy="the columns are none"):
        check_signature(correctness_reward, ["prompt"])


def test_a_module_that_cannot_import_a_name_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def __getattr__(name):\n    raise ImportError('no torch')\n"
    (tmp_path / "lazy_rewards.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with refused(problem="'own_reward' of 'lazy_rewards' does not import: ImportError: no torch"):
        resolve_reward("lazy_rewards.own_reward")
