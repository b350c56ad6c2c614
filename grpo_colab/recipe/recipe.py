"""A recipe says what to run: eight tables, typed and checked before anything is downloaded.

    Recipe.load()                                             the CPU default
    Recipe.load("gsm8k-llama31-8b", grpo={"learning_rate": 1e-5})
    Recipe.load("mine.toml")                                  a file whose `preset = "..."` names where it starts from

`[model]`, `[lora]` and `[grpo]` hold the arguments of FastLanguageModel.from_pretrained, get_peft_model and GRPOConfig
under their own names; `[task]` holds those of the task's class. `[rewards]` maps a reward to its weight (false takes
one out). The other three are ours: see Budget, Tripwires and Evaluation. Drawing tasks may have three more: Hindsight,
Pretraining, and `[sweep]`, which maps settings to the values that `grpo-colab draw --sweep` tries. Later sources win
key by key: preset, file, overrides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import PrivateAttr

from grpo_colab.errors import SettingError
from grpo_colab.recipe.reading import (
    DEFAULT_PRESET,
    DRAWING_TABLES,
    PASSED_THROUGH,
    PRESETS,
    TABLES,
    need_table,
    preset_names,
    read_tables,
    renamed,
)
from grpo_colab.recipe.schema import (
    Budget,
    Evaluation,
    Hindsight,
    Pretraining,
    Prompts,
    Table,
    Text,
    Tripwires,
    brings_code,
    keys_in,
    without_keys,
)
from grpo_colab.recipe.validation import checked_reward, checked_tables, need_new_metric, need_no_keys, of_reward
from grpo_colab.rewards import check_signature, resolve_reward, reward_name
from grpo_colab.rewards.resolve import parse_reward
from grpo_colab.tasks import Task, load_task
from grpo_colab.text import masked

__all__ = [
    "DEFAULT_PRESET",
    "DRAWING_TABLES",
    "PRESETS",
    "TABLES",
    "Hindsight",
    "Pretraining",
    "Recipe",
    "Text",
    "Tripwires",
    "preset_names",
]

TINY_MODEL: Path = Path(__file__).parents[1] / "tiny" / "word-problems"
OWN_MODELS = {"tiny": TINY_MODEL, "tiny-drawing": TINY_MODEL.with_name("drawing")}


class Recipe(Table):
    """Say what to run, resolved: every value that was chosen stands in it, and running it again repeats the run."""

    name: str
    description: str = ""
    task: dict[str, Any]
    model: dict[str, Any]
    lora: dict[str, Any]
    grpo: dict[str, Any]
    rewards: dict[str, float]
    budget: Budget
    tripwires: Tripwires
    evaluation: Evaluation
    hindsight: Hindsight | None = None
    pretraining: Pretraining | None = None
    sweep: dict[str, list[Any]] | None = None
    # settings that name code of others and that came from a file, not from who called `load`: see trust.py
    _received: tuple[str, ...] = PrivateAttr(())

    def __eq__(self, other: object) -> bool:
        """Compare what is to be run; where that was written does not matter."""
        return isinstance(other, Recipe) and self.public() == other.public()

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def load(cls, source: str | Path = DEFAULT_PRESET, **overrides: Mapping[str, Any]) -> Recipe:
        """Resolve a preset's name or a TOML file, with overrides a table (`grpo={"learning_rate": 1e-5}`).

        Nothing that it names outside this package is imported or called. Raises SettingError, which names the setting,
        its value and what to write instead.
        """
        tables = read_tables(source)
        for table, values in overrides.items():
            need_table(table)
            tables[table] = {**tables.get(table, {}), **renamed(table, values)}
        recipe = cls(**checked_tables(tables))
        recipe._check_whole()
        return recipe.named_by(overrides)

    def _check_whole(self) -> None:
        """Raise SettingError for what its tables show together: a key in them, a task, a model or a reward that fails.

        The rewards are only looked at: nothing outside this package is imported or called.
        """
        # the libraries' tables are written without their keys
        need_no_keys(self.model_dump(exclude_none=True, exclude={"rewards", *PASSED_THROUGH}), self.rewards)
        try:
            self.to_toml().encode()
        except TypeError as error:
            problem = f"a value that TOML cannot hold ({error})"
            raise SettingError(problem, remedy="write it as a text", place=f"recipe {self.name!r}") from None
        except UnicodeEncodeError as error:
            about = error.object[max(0, error.start - 30) : error.end + 10]
            problem = f"a value that is no UTF-8, near {about!r}"
            raise SettingError(problem, remedy="write it anew", place=f"recipe {self.name!r}") from None
        task = self.load_task()
        task.check_model(self.model["model_name"], self.model_path)
        columns = task.reward_columns()
        for name in self.rewards:
            checked_reward(name, columns)

    @property
    def completions_per_step(self) -> int:
        return self.budget.prompts_per_step * self.grpo["num_generations"]

    @property
    def model_path(self) -> str:
        """Return a folder or a name on the hub; "tiny" and "tiny-drawing" are the models that come with the package."""
        name = self.model["model_name"]
        return str(OWN_MODELS.get(name, name))

    @property
    def brings_model(self) -> bool:
        """Tell whether its model is one that comes with the package."""
        return self.model["model_name"] in OWN_MODELS

    @property
    def prompts(self) -> Prompts:
        return Prompts(**{key: self.task[key] for key in Prompts.model_fields if key in self.task})

    @property
    def max_completion_tokens(self) -> int:
        """Return the limit of a completion in the evaluation: that of training, unless [evaluation] says otherwise."""
        return self.evaluation.max_completion_tokens or self.grpo["max_completion_length"]

    def load_task(self) -> Task:
        return load_task(
            self.task["name"], **{key: value for key, value in self.task.items() if key not in Prompts.model_fields}
        )

    def named_by(self, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """Return a copy whose settings but these came from a file."""
        named = {f"{table}.{key}" for table, values in overrides.items() for key in renamed(table, values)}
        recipe = self.model_copy()
        recipe._received = tuple(setting for setting in foreign_settings(recipe) if setting not in named)
        return recipe

    @property
    def received(self) -> tuple[str, ...]:
        """Return the settings that name code of others and that came from a file."""
        return self._received

    def reward_functions(self) -> list[Callable[..., Any]]:
        """Import and return the functions of [rewards], in its order. This runs the files and modules that it names."""
        return [_reward(name) for name in self.rewards]

    def check_rewards(self, columns: Collection[str]) -> None:
        """Import the rewards, and check that TRL can call them for a data set with `columns`, each under its own name.

        SettingError says what is wrong. What can be told without importing anything `load` has told already.
        """
        metrics: dict[str, str] = {}
        for name, function in zip(self.rewards, self.reward_functions(), strict=True):
            try:
                check_signature(function, columns)
            except SettingError as error:
                raise of_reward(name, error) from None
            need_new_metric(name, reward_name(function), metrics)

    def repeats(self, other: Recipe) -> bool:
        """Tell whether it is the run that `other` asks for, however that is kept, tracked, and cut to fit a memory."""
        how = {"micro_batch", "max_hours", "save_minutes", "mirror", "rehearsal"}
        left_out: dict[str, Any] = {"description": True, "budget": how, "grpo": {"report_to", "run_name"}}
        if self.budget.min_completion_length:  # between it and what was asked for, memory decides
            left_out["grpo"].add("max_completion_length")
        longest = "max_completion_length"
        return self.grpo[longest] <= other.grpo[longest] and self.public(left_out) == other.public(left_out)

    def public(self, exclude: Any = None, **how: Any) -> dict[str, Any]:
        """Return its tables as they may be written and shown: without tokens. Options are those of `model_dump`."""
        dumped = self.model_dump(exclude=exclude, **how)
        return dumped | {table: without_keys(dumped[table]) for table in PASSED_THROUGH if table in dumped}

    def without_tokens(self, words: Iterable[str]) -> list[str]:
        """Return a command's words as they may be written: with dots for those that hold a token of this recipe's."""
        tokens = [token for table in PASSED_THROUGH for _, token in keys_in(getattr(self, table))]
        return [masked(word) if not any(token in word for token in tokens) else "..." for word in words]

    def to_toml(self) -> str:
        return tomli_w.dumps(self.public(exclude_none=True))


def foreign_settings(recipe: Recipe) -> list[str]:
    """Return the settings that name code outside this package: a user's rewards, and every trust_remote_code."""
    found = [f"rewards.{name}" for name in recipe.rewards if not parse_reward(name).ours]
    for table in PASSED_THROUGH:
        found += [f"{table}.{key}" for key, value in getattr(recipe, table).items() if brings_code(key, value)]
    return found


def _reward(name: str) -> Callable[..., Any]:
    try:
        return resolve_reward(name)
    except SettingError as error:
        raise of_reward(name, error) from None
