"""The recipe: nine tables that say what to run, typed and checked before anything is downloaded.

    Recipe.load()                                             the CPU default
    Recipe.load("gsm8k-llama31-8b", grpo={"learning_rate": 1e-5})
    Recipe.load("mine.toml")                                  a file; its `preset = "..."` names the preset it changes
    Recipe.load("gsm8k-tiny", rewards=[my_reward])            Python functions as rewards: see functions.py

`[model]`, `[lora]` and `[grpo]` hold the arguments of FastLanguageModel.from_pretrained, get_peft_model and GRPOConfig
under their own names. `[task]` holds those of the task's class. `[rewards]` maps a reward to its weight, where false
takes a reward out. The others are ours (schema.py); `[sweep]` has the values that `sweep` and `draw --sweep` try. Of
preset, file and overrides, the later one wins, setting by setting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import PrivateAttr

from grpo_colab.errors import SettingError
from grpo_colab.recipe.foreign import check_function, check_grader, check_unimported, foreign_settings, named_function
from grpo_colab.recipe.functions import Rewards, comment, given_rewards, missing_functions, need_given, own_name
from grpo_colab.recipe.own_task import completed_tables
from grpo_colab.recipe.reading import (
    DEFAULT_PRESET,
    OPTIONAL_TABLES,
    PASSED_THROUGH,
    TABLES,
    merged,
    name_with_data,
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
    Sampling,
    Table,
    Tripwires,
)
from grpo_colab.recipe.settings_search import secrets_in, without_secrets
from grpo_colab.recipe.task_table import own_options, with_given_rows
from grpo_colab.recipe.validation import (
    checked_tables,
    checked_weights,
    need_new_metric,
    need_no_secrets,
    need_payable_rewards,
)
from grpo_colab.rewards import reward_name
from grpo_colab.rewards.names import parse_reward
from grpo_colab.rewards.resolve import MissingColumn
from grpo_colab.tasks import Task, load_task
from grpo_colab.tasks.dataset import Dataset
from grpo_colab.tasks.names import parse_task
from grpo_colab.tasks.own_tasks import columns_of
from grpo_colab.tasks.sources import RunFiles, run_name, run_text
from grpo_colab.text import masked
from grpo_colab.utils.hub import need_folder

__all__ = ["DEFAULT_PRESET", "OPTIONAL_TABLES", "TABLES", "Recipe", "preset_names"]

TINY_MODEL: Path = Path(__file__).parents[1] / "tiny" / "word-problems"
OWN_MODELS = {"tiny": TINY_MODEL, "tiny-drawing": TINY_MODEL.with_name("drawing")}


class Recipe(Table):
    """Hold everything that decides a run. It has every value that was chosen, so running it again repeats the run."""

    name: str
    description: str = ""
    task: dict[str, Any]
    model: dict[str, Any]
    lora: dict[str, Any]
    grpo: dict[str, Any]
    rewards: dict[str, float]
    budget: Budget
    sampling: Sampling
    tripwires: Tripwires
    evaluation: Evaluation
    hindsight: Hindsight | None = None
    pretraining: Pretraining | None = None
    sweep: dict[str, list[Any]] | None = None
    # The settings that name code outside this package and came from a file, not from the caller: `trust` asks for them.
    _received: tuple[str, ...] = PrivateAttr(())
    # The table [rewards] as it was written, where the rewards of a class of somebody's own come before it.
    _rewards_to_add: dict[str, Any] | None = PrivateAttr(None)
    # Those of [rewards] that Python code gave as functions, by their names there.
    _functions: dict[str, Callable[..., Any]] = PrivateAttr(default_factory=dict)
    # Where the files are that task.path names as run:NAME: a run folder, or their texts before there is one.
    _run_files: RunFiles = PrivateAttr(None)

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` is a recipe with the same name, description and tables.

        Secrets make no difference, nor where the settings were written. A Python function is compared by its name.
        """
        return isinstance(other, Recipe) and self.public() == other.public()

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[Any, Any]:
        """Leave the given functions out of a pickle: not all can be in one, and each process has been given its own."""
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {**(state["__pydantic_private__"] or {}), "_functions": {}}}

    @classmethod
    def load(cls, source: str | Path = DEFAULT_PRESET, **overrides: Any) -> Recipe:
        """Return the recipe of a preset's name or a TOML file, with overrides (`grpo={"learning_rate": 1e-5}`).

        The path of a TOML file ends in ".toml". An override of None leaves the setting to its default. In `rewards` a
        reward may be a Python function. `rewards={my_reward: 0.5}` changes weights setting by setting, as every table
        does. A list, as in `rewards=["correctness", my_reward]`, is all rewards that there are, with weight 1.0 each.

        A preset that is given other data is named after both: see `name_with_data`. Nothing of others is imported or
        called. Raises SettingError, which names the setting, its value, and what to write instead.
        """
        for table in overrides:
            need_table(table)
        read = read_tables(source)
        tables = merged(read, overrides)
        name = name_with_data(source, read["name"], read["task"], tables["task"])
        tables |= {} if name == read["name"] else {"name": name, "description": ""}
        recipe = cls(**checked_tables(tables))
        recipe._rewards_to_add = dict(tables["rewards"]) if tables.get("own_rewards") else None
        if Path(source).suffix == ".toml":
            recipe._run_files = Path(source).parent
        recipe._keep_functions(given_rewards(overrides.get("rewards", {})).functions)
        if Path(source).name != "recipe.toml":  # that of a run is read where its model is gone, too, as for a report
            need_folder(recipe.model["model_name"])
        recipe._check_across_tables()
        return recipe.with_user_overrides(overrides)

    def with_rewards(self, rewards: Rewards) -> Recipe:
        """Return a copy with these rewards: a list is all that there are, a table changes weights, as in `load`.

        Raises SettingError as `load` does.
        """
        given, named = given_rewards(rewards), renamed("rewards", rewards)
        kept = {} if given.are_all else self.rewards
        return self._with_weights({**kept, **named}, given.functions, named)

    def with_functions(self, rewards: Rewards) -> Recipe:
        """Return a copy that has the functions among `rewards` again, which a run's own file could not keep.

        A list leaves all weights as they are. A function in it may have come from another script or module before: its
        own name tells. Raises SettingError for one that the recipe does not have. A table changes weights as well: see
        `with_rewards`.
        """
        given, named = given_rewards(rewards), renamed("rewards", rewards)
        if not given.are_all:
            return self.with_rewards(rewards)
        own_names = {name: own_name(name, self.rewards, name in given.functions) for name in named}
        functions = {own_names[name]: function for name, function in given.functions.items()}
        return self._with_weights(self.rewards, functions, own_names.values())

    def _with_weights(
        self, weights: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]], named: Iterable[str]
    ) -> Recipe:
        """Return a copy with these weights and functions. The user, and no file, has `named` those rewards."""
        recipe = self.model_copy(update={"rewards": checked_weights(weights)})
        recipe._rewards_to_add = None
        recipe._keep_functions(functions)
        recipe._check_across_tables()
        by_user = {f"rewards.{name}" for name in named}
        received = (setting for setting in foreign_settings(recipe) if setting in self.received)
        recipe._received = tuple(setting for setting in received if setting not in by_user)
        return recipe

    def _keep_functions(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        """Keep these functions, as far as this recipe has rewards of their names."""
        functions = {**self._functions, **functions}
        self._functions = {name: function for name, function in functions.items() if name in self.rewards}

    def _check_across_tables(self) -> None:
        """Raise SettingError for a problem that no table shows by itself.

        These are a secret, a value that TOML cannot hold, and a task, a model and rewards that do not go together. The
        task is made, unless that runs code of others. Rewards of others are not imported.
        """
        # The libraries' tables may hold a token: they are always written without it.
        need_no_secrets(self.model_dump(exclude_none=True, exclude={"rewards", *PASSED_THROUGH}), self.rewards)
        try:
            self.to_toml().encode()
        except TypeError as error:
            problem = f"a value that TOML cannot hold ({error})"
            raise SettingError(problem, remedy="write it as a text", place=f"recipe {self.name!r}") from None
        except UnicodeEncodeError as error:
            nearby = error.object[max(0, error.start - 30) : error.end + 10]
            problem = f"a value that is no UTF-8, near {nearby!r}"
            raise SettingError(problem, remedy="write it anew", place=f"recipe {self.name!r}") from None
        if not parse_task(self.task["name"]).runs_code:
            self.check_task()

    def check_task(self) -> None:
        """Make the task, and raise SettingError for a task, a model and rewards that do not go together.

        Making a task of others runs its code. Rewards of others are not imported.
        """
        task = self.load_task()
        task.check_model(self.model["model_name"], self.model_path)
        need_payable_rewards(self.rewards, self.task)
        columns = columns_of(task) if getattr(task, "columns_known", True) else None
        try:
            self.check_unimported(columns)
        except MissingColumn as error:
            place = task.columns_place()
            raise (error.at(place) if place else error) from None

    @property
    def completions_per_step(self) -> int:
        """Return the number of completions that one optimiser step learns from, in all processes together."""
        return self.budget.prompts_per_step * self.grpo["num_generations"]

    @property
    def model_path(self) -> str:
        """Return the model's folder or its name on the hub.

        The names "tiny" and "tiny-drawing" stand for the models that come with the package.
        """
        name = self.model["model_name"]
        return str(OWN_MODELS.get(name, name))

    @property
    def brings_model(self) -> bool:
        """Tell whether the model comes with the package."""
        return self.model["model_name"] in OWN_MODELS

    @property
    def prompts(self) -> Prompts:
        """Return the settings of [task] that every task has."""
        return Prompts(**{key: self.task[key] for key in Prompts.model_fields if key in self.task})

    @property
    def max_completion_tokens(self) -> int:
        """Return the longest completion in the evaluation, in tokens: as in training, unless [evaluation] sets it."""
        return self.evaluation.max_completion_tokens or self.grpo["max_completion_length"]

    def load_task(self) -> Task:
        """Return the task, made with the settings of [task] that are its own. **A task of others runs its code.**

        Raises SettingError for settings that the task's class refuses, such as a folder without the data.
        """
        task = load_task(self.task["name"], **own_options(self.task))
        if isinstance(task, Dataset):
            task.run_files = self._run_files
        return task

    def with_dataset(self, dataset: Any) -> Recipe:
        """Return a copy whose problems are those of `dataset`, which its run will keep in its folder.

        `dataset` is a datasets.Dataset, a DatasetDict, a DataFrame, or a list of dicts or Problems. A task of another
        name becomes the task `dataset`, and keeps the settings that every task has. Raises SettingError for what is no
        such data set, for a recipe that names a `task.path` of its own, and for a drawing task.
        """
        task, texts = with_given_rows(self.task, dataset)
        recipe = self.model_copy(update={"task": task})
        recipe._run_files = texts
        recipe._check_across_tables()
        return recipe

    def data_files(self) -> dict[str, str]:
        """Return the texts of the data files that a run of this recipe is to keep, by their names; mostly none.

        A recipe of a run folder has them from there. Raises SettingError where they are not there any more.
        """
        paths = [str(self.task[key]) for key in ("path", "test_path") if key in self.task]
        return {name: run_text(name, self._run_files) for name in map(run_name, paths) if name}

    def completed_by_task(self) -> Recipe:
        """Return the recipe checked by a task of others, with the rewards that the task brings: see `own_task`.

        **It runs the task's code**, so `check_trust` comes first. Raises SettingError for a task that cannot work.
        """
        if not parse_task(self.task["name"]).runs_code:
            return self
        task, rewards = completed_tables(self.task, self.rewards, self._rewards_to_add, self.grpo["seed"])
        recipe = self.model_copy(update={"task": task, "rewards": rewards})
        recipe._rewards_to_add = None
        recipe._check_across_tables()
        recipe.check_task()
        return recipe

    def with_user_overrides(self, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """Return a copy whose `received` lists all foreign settings but those that `overrides` has.

        `overrides` maps tables to the settings that the user wrote; their values are not looked at. Raises SettingError
        for a setting that has moved to another table, and for one that is computed from others.
        """
        by_user = {f"{table}.{key}" for table, values in overrides.items() for key in renamed(table, values)}
        recipe = self.model_copy()
        recipe._received = tuple(setting for setting in foreign_settings(recipe) if setting not in by_user)
        return recipe

    @property
    def received(self) -> tuple[str, ...]:
        """Return the settings that name code outside this package and came from a file."""
        return self._received

    @property
    def missing_functions(self) -> list[str]:
        """Return the names of those rewards whose functions Python code has to give to this process, and has not."""
        return missing_functions(self.rewards, self._functions)

    def need_functions(self, resume: str = "") -> None:
        """Raise SettingError for a reward whose function is missing. Nothing is imported.

        `resume` is the call that resumes the run of this recipe with a list of functions, up to that list.
        """
        need_given(self.rewards, self._functions, resume)

    def reward_functions(self) -> list[Callable[..., Any]]:
        """Return the functions of [rewards], in its order. This imports and runs the files and modules that it names.

        A reward of ours that has settings for it judges the task's kind of answers, and looks for the answer where the
        task's `answer_in` says, unless its brackets say otherwise. Raises SettingError for a reward that cannot be
        imported, and for one whose function is missing.
        """
        self.need_functions()
        grading = self._grading()
        functions = []
        for name in self.rewards:
            function = self._functions.get(name)
            functions.append(named_function(name, grading) if function is None else function)
        return functions

    def own_reward_functions(self) -> dict[str, Callable[..., Any]]:
        """Return those functions of [rewards] that are this package's own, by their names there.

        Nothing of others is imported. Raises SettingError as `reward_functions` does.
        """
        grading = self._grading()
        return {name: named_function(name, grading) for name in self.rewards if parse_reward(name).ours}

    def _grading(self) -> Mapping[str, Any]:
        """Return the task's settings that its rewards take, too; none where a class of one's own has left them out."""
        return getattr(self.load_task(), "grading", {})

    def check_unimported(self, columns: Collection[str] | None) -> None:
        """Check the rewards and task.grader as far as that needs nobody else's code; see `foreign.check_unimported`."""
        check_unimported(self.rewards, self._functions, self.task.get("grader"), columns)

    def check_rewards(self, columns: Collection[str]) -> None:
        """Import the rewards, and raise SettingError unless TRL can call each for a data set with `columns`.

        The import runs the files and modules that [rewards] names. Raises SettingError also for a reward that cannot be
        imported, and for two rewards that would be logged as one metric. `load` has checked already what can be told
        without an import.
        """
        metrics: dict[str, str] = {}
        for name, function in zip(self.rewards, self.reward_functions(), strict=True):
            check_function(name, function, columns)
            check_grader(name, function, columns)
            need_new_metric(name, reward_name(function), metrics)

    def repeats(self, other: Recipe) -> bool:
        """Tell whether a run of this recipe is the run that `other` asks for.

        They may differ in how the run is saved, mirrored and tracked, in a sampling.generate_more that was chosen, and
        in completions that were cut to fit into memory, as budget.min_completion_length allows, but never made longer.
        """
        ignored: dict[str, Any] = {
            "description": True,
            "budget": {"micro_batch", "max_hours", "save_minutes", "mirror", "mirror_minutes", "rehearsal"},
            "grpo": {"report_to", "run_name"},
        }
        if other.sampling.generate_more == "auto":
            ignored["sampling"] = {"generate_more"}
        if self.budget.min_completion_length:
            ignored["grpo"].add("max_completion_length")
        if self.grpo["max_completion_length"] > other.grpo["max_completion_length"]:
            return False
        return self.public(ignored) == other.public(ignored)

    def public(self, exclude: Any = None, **options: Any) -> dict[str, Any]:
        """Return the tables without secrets, as they may be written and shown. The options are `model_dump`'s."""
        tables = self.model_dump(exclude=exclude, **options)
        return tables | {table: without_secrets(tables[table]) for table in PASSED_THROUGH if table in tables}

    def without_tokens(self, arguments: Iterable[str]) -> list[str]:
        """Return a command's arguments as they may be written: "..." for one that has one of this recipe's secrets."""
        tokens = [token for table in PASSED_THROUGH for _, token in secrets_in(getattr(self, table))]
        return ["..." if any(token in argument for token in tokens) else masked(argument) for argument in arguments]

    def to_toml(self) -> str:
        """Return the recipe as TOML, without secrets and without settings that are None; `Recipe.load` reads it back.

        A comment at its head says where the functions among its rewards are from, which no file can hold. Raises
        TypeError for a value that TOML cannot hold.
        """
        return comment(self.rewards, self._functions) + tomli_w.dumps(self.public(exclude_none=True))
