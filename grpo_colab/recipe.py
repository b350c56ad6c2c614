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

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import PrivateAttr

from grpo_colab import signatures
from grpo_colab.console import masked
from grpo_colab.drawing.images import image_text, load_image
from grpo_colab.errors import SettingError, nearest
from grpo_colab.files import check_name, expanded, is_folder
from grpo_colab.rewards import check_signature, resolve_reward, reward_name
from grpo_colab.rewards.look import look_at_reward
from grpo_colab.rewards.resolve import parse_reward, split_settings
from grpo_colab.tables import (
    DERIVED,
    RENAMED,
    STEP_CAP,
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
    own_table,
    typed,
    without_keys,
)
from grpo_colab.tasks import TASKS, Task, load_task, task_class, task_options
from grpo_colab.tiny import TINY_MODEL
from grpo_colab.toml_reading import read_toml

__all__ = [
    "DEFAULT_PRESET",
    "PRESETS",
    "TABLES",
    "Hindsight",
    "Pretraining",
    "Recipe",
    "Text",
    "Tripwires",
    "preset_names",
]

PRESETS = Path(__file__).parent / "recipes"
OWN_MODELS = {"tiny": TINY_MODEL, "tiny-drawing": TINY_MODEL.with_name("drawing")}
LONGEST_RECIPE_NAME = 150  # bytes; a date, and of a drawing the image and the method, stand beside it
DEFAULT_PRESET = "word-problems-tiny"
TABLES = ("task", "model", "lora", "grpo", "rewards", "budget", "tripwires", "evaluation")
DRAWING_TABLES = ("hindsight", "pretraining", "sweep")  # of drawing tasks; one that is not there stays so
PASSED_THROUGH = ("model", "lora", "grpo")
NAMES = ("model_name", "revision", "token")  # texts, though a commit may look like a number


class Recipe(Table):
    """What to run, resolved: every value that was chosen stands in it, and running it again repeats the run."""

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
        tables = _read(source)
        for table, values in overrides.items():
            if table not in (known := (*TABLES, *DRAWING_TABLES)):
                raise SettingError(f"{table}: no such table{nearest(table, known)} There are: {', '.join(known)}")
            tables[table] = {**tables.get(table, {}), **_moved(table, values)}
        return _resolve(tables).named_by(overrides)

    @property
    def completions_per_step(self) -> int:
        return self.budget.prompts_per_step * self.grpo["num_generations"]

    @property
    def model_path(self) -> str:
        """A folder or a name on the hub; "tiny" and "tiny-drawing" are the models that come with the package."""
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
        """Of the evaluation: as many as in training unless it says otherwise."""
        return self.evaluation.max_completion_tokens or self.grpo["max_completion_length"]

    def load_task(self) -> Task:
        return load_task(
            self.task["name"], **{key: value for key, value in self.task.items() if key not in Prompts.model_fields}
        )

    def named_by(self, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """Return a copy whose settings but these came from a file."""
        named = {f"{table}.{key}" for table, values in overrides.items() for key in _moved(table, values)}
        recipe = self.model_copy()
        recipe._received = tuple(setting for setting in foreign_settings(recipe) if setting not in named)
        return recipe

    @property
    def received(self) -> tuple[str, ...]:
        """The settings that name code of others and that came from a file."""
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
            except ValueError as error:
                raise SettingError(f"rewards.{name}: {error}") from None
            _need_new_metric(name, reward_name(function), metrics)

    def repeats(self, other: Recipe) -> bool:
        """Whether it is the run that `other` asks for, however that is kept, followed, and cut to fit a memory."""
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


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def _read(source: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tables of a preset or a file, on top of those of the preset that the file starts from."""
    path = Path(source)
    if path in above:
        raise SettingError(f"recipe {str(source)!r}: starts from itself, by way of {above[-1]}")
    if path.suffix != ".toml":
        path = PRESETS / f"{source}.toml"
        if str(source) not in preset_names():
            raise SettingError(
                f"recipe {str(source)!r}: no such preset{nearest(str(source), preset_names())} "
                f"There are: {', '.join(preset_names())}; or give the path of a .toml file"
            )
    read = _tables(path, source)
    name = read.get("name", path.stem)
    try:
        check_name("name", name)
    except ValueError as error:
        raise SettingError(f"{path.name}: {error}") from None
    if not name or Path(name).name != name or len(name.encode()) > LONGEST_RECIPE_NAME:
        raise SettingError(
            f"{path.name}: name = {name[:80]!r}: names the run folder, so it must be a plain file name of at most "
            f"{LONGEST_RECIPE_NAME} bytes"
        )
    if "preset" in read:
        base = _read(read["preset"], (*above, path))
    else:  # what nothing stands below says all of its rewards, or has its task's
        base = {"rewards": {} if "rewards" in read else _default_rewards(read)}
    for setting, _ in (found for table in PASSED_THROUGH for found in keys_in(read.get(table, {}), table)):
        raise SettingError(
            f"{path.name}: {setting}: a key that opens something, and no file should hold one; take the line out, and "
            "set HF_TOKEN in the environment, or run `hf auth login`"
        )
    for table in TABLES:
        base[table] = {**base.get(table, {}), **_moved(table, read.get(table, {}))}
    for table in DRAWING_TABLES:
        if table in read:
            base[table] = {**base.get(table, {}), **read[table]}
    return base | {"name": name, "description": read.get("description", "")}


def _tables(path: Path, source: str | Path) -> dict[str, Any]:
    """A recipe file's content, every table known and every other value a text."""
    try:
        read = read_toml(path, follow=True)
    except OSError as error:
        raise SettingError(f"recipe {str(source)!r}: cannot read it ({error.strerror})") from None
    except ValueError as error:
        raise SettingError(f"recipe {str(source)!r}: not TOML: {error}") from None
    tables = (*TABLES, *DRAWING_TABLES)
    known = ("preset", "name", "description", *tables)
    for key, value in read.items():
        if key not in known:
            raise SettingError(f"{path.name}: {key}: no such table{nearest(key, known)} There are: {', '.join(known)}")
        if (key in tables) is not isinstance(value, dict):
            raise SettingError(f"{path.name}: {key} = {value!r}: must be {'a table' if key in tables else 'a text'}")
        if key not in tables and not isinstance(value, str):
            raise SettingError(f"{path.name}: {key} = {value!r}: must be a text")
    return read


def _default_rewards(read: Mapping[str, Any]) -> dict[str, float]:
    name = read.get("task", {}).get("name")
    return dict(task_class(name).default_rewards) if isinstance(name, str) and name in TASKS else {}


def _moved(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` under today's names; a name whose value moved to another table says where it went."""
    moved = {}
    for key, value in values.items():
        setting = f"{table}.{key}"
        if setting in DERIVED:
            raise SettingError(f"{setting} = {value!r}: follows from the rest; set {DERIVED[setting]} instead")
        now_table, now = RENAMED.get(setting, setting).split(".", 1)
        if now_table != table:
            raise SettingError(f"{setting} = {value!r}: lives elsewhere; write {now_table}.{now} = {value}")
        if table == "rewards":
            now = _reward_key(now)
        moved[now] = value
    return moved


def _reward_key(name: str) -> str:
    """One spelling for each reward: a short name without its suffix, a file with its whole path."""
    name, settings = split_settings(name)
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{expanded(file).absolute()}:{function}{settings}"
    return (name if "." in name else name.removesuffix("_reward")) + settings


def _resolve(read: Mapping[str, Any]) -> Recipe:
    # None is how Python says "leave it to the library"; TOML has no word for it
    tables = {table: {key: value for key, value in read[table].items() if value is not None} for table in TABLES}
    for table in PASSED_THROUGH:
        tables[table] = {key: _passed_through(table, key, value) for key, value in tables[table].items()}
    task = _checked_task(tables["task"], seed=tables["grpo"].setdefault("seed", 42))
    tables["lora"].setdefault("random_state", tables["grpo"]["seed"])
    for setting, table, key in (("a model", "model", "model_name"), ("a group's size", "grpo", "num_generations")):
        if key not in tables[table]:
            raise SettingError(f"{table}.{key} is missing: a recipe needs {setting}")
    if is_folder(folder := expanded(tables["model"]["model_name"])):
        tables["model"]["model_name"] = str(folder.absolute())
    _check_values(tables["grpo"])
    if tables["grpo"]["num_generations"] < 2:
        raise SettingError(
            f"grpo.num_generations = {tables['grpo']['num_generations']}: a group of one has no advantage; "
            "write 2 or more"
        )
    completion = tables["grpo"].setdefault("max_completion_length", 512)  # TRL's own default, made visible
    longest, room = task.get("max_prompt_tokens", 0) + completion, tables["model"].get("max_seq_length")
    if room is not None and longest > room:
        raise SettingError(
            f"model.max_seq_length = {room}: task.max_prompt_tokens + grpo.max_completion_length = {longest} do not "
            f"fit; write {longest} or more, or make one of them smaller"
        )
    budget = _checked_budget(tables["budget"])
    if (shortest := budget.min_completion_length) is not None and shortest > completion:
        raise SettingError(
            f"budget.min_completion_length = {shortest}: more than grpo.max_completion_length = {completion}; write "
            f"{completion} or less"
        )
    recipe = Recipe(
        name=read["name"],
        description=read["description"],
        task=task,
        model=tables["model"],
        lora=tables["lora"],
        grpo=tables["grpo"],
        rewards=_weights(tables["rewards"]),
        budget=budget,
        tripwires=own_table(Tripwires, "tripwires", tables["tripwires"]),
        evaluation=own_table(Evaluation, "evaluation", tables["evaluation"]),
        **_drawing_tables(read, task),
    )
    _need_no_keys(recipe)
    try:
        recipe.to_toml().encode()
    except TypeError as error:
        raise SettingError(
            f"recipe {recipe.name!r}: a value that TOML cannot hold ({error}); write it as a text"
        ) from None
    except UnicodeEncodeError as error:
        about = error.object[max(0, error.start - 30) : error.end + 10]
        raise SettingError(f"recipe {recipe.name!r}: a value that is no UTF-8, near {about!r}; write it anew") from None
    task_made = recipe.load_task()
    task_made.check_model(recipe.model["model_name"], recipe.model_path)
    columns = task_made.reward_columns()
    for name in recipe.rewards:
        _looked_at(name, columns)
    return recipe


def _need_no_keys(recipe: Recipe) -> None:
    """SettingError for what opens something where the recipe is written as it is: all but the libraries' tables."""
    written = recipe.model_dump(exclude_none=True, exclude={"rewards", *PASSED_THROUGH})
    found = [setting.removeprefix(".") for setting, _ in keys_in(written)]
    for name in recipe.rewards:
        settings = parse_reward(name).settings or {}
        if masked(name) != name or any(True for _ in keys_in(settings)):
            found.append(f"rewards.{parse_reward(name).text}")
    if found:
        raise SettingError(
            f"{found[0]}: a key that opens something, and a run writes its recipe down; take it out, and read it from "
            "the environment where it is used"
        )


def foreign_settings(recipe: Recipe) -> list[str]:
    """The settings of a recipe that name code outside this package: its own rewards, and every trust_remote_code."""
    found = [f"rewards.{name}" for name in recipe.rewards if not parse_reward(name).ours]
    for table in PASSED_THROUGH:
        found += [f"{table}.{key}" for key, value in getattr(recipe, table).items() if brings_code(key, value)]
    return found


def _drawing_tables(read: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Those of DRAWING_TABLES that are there, checked."""
    found: dict[str, Any] = {}
    for table in (table for table in DRAWING_TABLES if table in read):
        if task["name"] != "drawing":
            raise SettingError(f'[{table}]: is for drawing tasks; take it out, or write task.name = "drawing"')
        values = {key: value for key, value in read[table].items() if value is not None}
        if table == "hindsight":
            found[table] = own_table(Hindsight, table, values)
        elif table == "pretraining":
            found[table] = pretraining = own_table(Pretraining, table, values)
            if pretraining.batch_size % pretraining.micro_batch:
                raise SettingError(
                    f"pretraining.micro_batch = {pretraining.micro_batch}: does not divide pretraining.batch_size = "
                    f"{pretraining.batch_size}; write a number that does"
                )
        else:
            for setting, given in values.items():
                known, key = (*TABLES, *DRAWING_TABLES[:2]), setting.partition(".")
                tried = values[setting] = typed(Any, given, f"sweep.{setting}")  # a text, from the command line
                if key[0] not in known or not key[2] or not isinstance(tried, list) or not tried:
                    raise SettingError(
                        f'sweep.{setting} = {tried!r}: write "table.setting" = [value, ...]; tables are '
                        f"{', '.join(known)}"
                    )
            found[table] = values
    return found


def _check_values(grpo: Mapping[str, Any]) -> None:
    """Values that TRL itself would refuse only in the middle of a run."""
    if grpo.get("temperature", 1.0) <= 0:
        raise SettingError(f"grpo.temperature = {grpo['temperature']}: a group is sampled; write a number above 0")
    losses = signatures.compared("loss_type")
    if losses and grpo.get("loss_type", "dapo") not in losses:
        name = grpo["loss_type"]
        raise SettingError(
            f"grpo.loss_type = {name!r}: no such loss{nearest(name, losses)} There are: {', '.join(losses)}"
        )


def _passed_through(table: str, key: str, value: Any) -> Any:
    known = signatures.accepted(table)
    if known is None:  # the library is not here, as where a recipe is only looked at
        return typed(Any, value, f"{table}.{key}")
    if key not in known:
        raise SettingError(
            f"{table}.{key} = {value!r}: {signatures.OWNERS[table]} has no such argument{nearest(key, known)}"
        )
    return typed(str if key in NAMES else known[key], value, f"{table}.{key}")


def _checked_task(values: dict[str, Any], seed: int) -> dict[str, Any]:
    """The [task] table with its seed, its paths absolute, and nothing in it that the task does not take."""
    common = own_table(Prompts, "task", {key: value for key, value in values.items() if key in Prompts.model_fields})
    options = task_options(common.name)
    for key in values:
        if key not in options and key not in Prompts.model_fields:
            known = [*Prompts.model_fields, *options]
            raise SettingError(
                f"task.{key}: the task {common.name!r} has no such setting{nearest(key, known)} "
                f"It has: {', '.join(known)}"
            )
    chosen = {key: typed(options[key], values[key], f"task.{key}") for key in options if key in values}
    for key in ("path", "test_path"):
        if chosen.get(key) is not None:
            chosen[key] = str(expanded(chosen[key]).absolute())
    image = chosen.get("image", "")
    if common.name == "drawing" and len(image) < 256 and Path(image).is_file():  # kept as it is now
        chosen["image"] = image_text(load_image(chosen["image"])).replace("\n", "/")
    chosen.setdefault("seed", seed)
    return common.model_dump(exclude_none=True) | chosen


def _checked_budget(values: Mapping[str, Any]) -> Budget:
    """The [budget] table, the mirror's folder absolute."""
    budget = own_table(Budget, "budget", values)
    if budget.max_steps > STEP_CAP and not budget.uncapped:
        raise SettingError(
            f"budget.max_steps = {budget.max_steps}: more than {STEP_CAP}; write {STEP_CAP} or fewer, "
            "or budget.uncapped = true"
        )
    if not budget.mirror:
        return budget.model_copy(update={"mirror": None})  # so that "" takes it away
    if budget.mirror.startswith("hf://"):
        if not re.fullmatch(r"hf://[\w.-]+/[\w.-]+", budget.mirror):
            raise SettingError(f"budget.mirror = {budget.mirror!r}: write hf://user/repository, or a folder")
        return budget
    return budget.model_copy(update={"mirror": str(expanded(budget.mirror).absolute())})


def _weights(rewards: Mapping[str, Any]) -> dict[str, float]:
    """Reward -> weight, without those that are set to false; 0 keeps a reward in the log alone."""
    weights: dict[str, float] = {}
    metrics: dict[str, str] = {}
    for name, given in rewards.items():
        weight = typed(float | bool, given, f"rewards.{name}")
        if weight is False:
            continue
        if weight is True or not math.isfinite(weight):
            raise SettingError(f"rewards.{name} = {weight!r}: must be a finite weight, or false to take the reward out")
        if metric := _looked_at(name):  # else only a call can tell
            _need_new_metric(name, metric, metrics)
        weights[name] = float(weight)
    if not any(weights.values()):
        raise SettingError("rewards: none has a weight that is not 0; write for instance correctness = 1.0")
    return weights


def _need_new_metric(name: str, metric: str, metrics: dict[str, str]) -> None:
    if metric in metrics:
        raise SettingError(f"rewards.{name}: would be logged as {metric!r}, and so would {metrics[metric]}; rename one")
    metrics[metric] = name


def _looked_at(name: str, columns: Collection[str] | None = None) -> str | None:
    try:
        return look_at_reward(name, columns)
    except ValueError as error:
        raise SettingError(f"rewards.{name}: {error}") from None


def _reward(name: str) -> Callable[..., Any]:
    try:
        return resolve_reward(name)
    except ValueError as error:
        raise SettingError(f"rewards.{name}: {error}") from None
