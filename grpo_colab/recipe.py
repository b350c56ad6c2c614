"""A recipe says what to run: eight tables, typed and checked before anything is downloaded.

    Recipe.load()                                             the CPU default
    Recipe.load("gsm8k-llama31-8b", grpo={"learning_rate": 1e-5})
    Recipe.load("mine.toml")                                  a file whose `preset = "..."` names where it starts from

`[model]`, `[lora]` and `[grpo]` hold the arguments of FastLanguageModel.from_pretrained, get_peft_model and GRPOConfig
under their own names; `[task]` holds those of the task's class. `[rewards]` maps a reward to its weight (false takes
one out). The other three are ours: see Budget, Tripwires and Evaluation. Later sources win key by key: preset, file,
overrides.
"""

from __future__ import annotations

import contextlib
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from grpo_colab import signatures
from grpo_colab.errors import SettingError, nearest
from grpo_colab.rewards import check_signature, resolve_reward, reward_name
from grpo_colab.rewards.resolve import split_settings
from grpo_colab.tasks import TASKS, Task, load_task, task_class, task_options
from grpo_colab.tiny import TINY_MODEL

PRESETS = Path(__file__).parent / "recipes"
DEFAULT_PRESET = "word-problems-tiny"
STEP_CAP = 250
TABLES = ("task", "model", "lora", "grpo", "rewards", "budget", "tripwires", "evaluation")
PASSED_THROUGH = ("model", "lora", "grpo")
NAMES = ("model_name", "revision", "token")  # texts, though a commit may look like a number

# Names that another release of the libraries has, or that live elsewhere here: old place -> where it is now.
RENAMED = {
    "grpo.max_steps": "budget.max_steps",
    "grpo.max_prompt_length": "task.max_prompt_tokens",
    "grpo.warmup_ratio": "grpo.warmup_steps",  # since transformers 5 a warmup_steps below 1 is a share of all steps
    "model.torch_dtype": "model.dtype",
    "lora.rank": "lora.r",
    "lora.alpha": "lora.lora_alpha",
}
# What follows from the rest, and what to write instead.
DERIVED = {
    "grpo.per_device_train_batch_size": "budget.micro_batch",
    "grpo.gradient_accumulation_steps": "budget.prompts_per_step",
    "grpo.generation_batch_size": "budget.prompts_per_step",
    "grpo.steps_per_generation": "budget.prompts_per_step",
    "grpo.num_train_epochs": "budget.max_steps",
    "grpo.output_dir": "--out (or train(recipe, out=...))",
    "grpo.reward_weights": "the weights in [rewards]",
    "grpo.logging_steps": "nothing: a run keeps a line a step",
    "grpo.resume_from_checkpoint": "--resume RUN",
    "grpo.use_vllm": "model.fast_inference",
    "grpo.eval_strategy": "[evaluation], which asks before and after",
    "grpo.do_eval": "[evaluation], which asks before and after",
    "grpo.push_to_hub": 'budget.mirror = "hf://user/repository"',
    "grpo.save_only_model": "nothing: a checkpoint is what a run goes on from",
}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Budget(_Table):
    """How much is learnt: steps, and completions a step (prompts_per_step x grpo.num_generations); and what is kept."""

    max_steps: int = Field(STEP_CAP, ge=1, description="optimiser steps; more than 250 needs uncapped = true")
    uncapped: bool = Field(False, description="allow more than 250 steps")
    prompts_per_step: int = Field(1, ge=1, description="different prompts in one optimiser step")
    micro_batch: int = Field(0, ge=0, description="completions in one backward pass on one device; 0: by memory")
    min_completion_length: int | None = Field(
        None, ge=1, description="tokens; grpo.max_completion_length may be cut to that where memory asks for it"
    )
    rehearsal: bool = Field(True, description="try a step at the longest prompt and full length before the first")
    max_hours: float | None = Field(None, ge=0, description="of one sitting: stops in time to save and evaluate")
    save_minutes: float = Field(
        5.0, ge=0, description="a checkpoint as often, beside grpo.save_steps; 0: by step alone"
    )
    mirror: str | None = Field(None, description="a folder, or hf://user/repository, that gets a copy")


class Tripwires(_Table):
    """What stops a run at its last good checkpoint; 0 or false turns one off."""

    non_finite: bool = Field(True, description="a loss, a gradient or a reward that is NaN or infinite")
    max_kl: float = Field(10.0, ge=0, description="KL to the base model in nats a token, three steps in a row")
    max_length_growth: float = Field(
        4.0, ge=0, description="completions so many times as long as at the start, for nothing"
    )
    gibberish: float = Field(2.0, ge=0, description="nats a token that the policy's samples lose under the base model")


class Evaluation(_Table):
    """The held-out problems that are answered greedily before and after."""

    n: int = Field(256, ge=1, description="problems")
    split: str = Field("test", pattern="^(train|test)$", description="train or test")
    batch_size: int = Field(0, ge=0, description="problems answered at once; 0: by memory")
    max_completion_tokens: int | None = Field(None, ge=1, description="grpo.max_completion_length when left out")


class Prompts(_Table):
    """What every task has in its [task] table beside its own options."""

    name: str
    max_prompt_tokens: int = Field(256, ge=1, description="longer prompts are left out, and counted")
    limit: int | None = Field(None, ge=1, description="train on the first so many problems only")


class Recipe(_Table):
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

    @classmethod
    def load(cls, source: str | Path = DEFAULT_PRESET, **overrides: Mapping[str, Any]) -> Recipe:
        """Resolve a preset's name or a TOML file, with overrides a table (`grpo={"learning_rate": 1e-5}`).

        Raises SettingError, which names the setting, its value and what to write instead.
        """
        tables = _read(source)
        for table, values in overrides.items():
            if table not in TABLES:
                raise SettingError(f"{table}: no such table{nearest(table, TABLES)} There are: {', '.join(TABLES)}")
            tables[table] = {**tables[table], **_moved(table, values)}
        return _resolve(tables)

    @property
    def completions_per_step(self) -> int:
        return self.budget.prompts_per_step * self.grpo["num_generations"]

    @property
    def model_path(self) -> str:
        """A folder or a name on the hub; "tiny" is the model that comes with the package."""
        name = self.model["model_name"]
        return str(TINY_MODEL) if name == "tiny" else name

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

    def reward_functions(self) -> list[Callable[..., Any]]:
        """The functions of [rewards], in its order."""
        return [_reward(name) for name in self.rewards]

    def repeats(self, other: Recipe) -> bool:
        """Whether it is the run that `other` asks for, however that is kept, followed, and cut to fit a memory."""
        how = {"micro_batch", "max_hours", "save_minutes", "mirror", "rehearsal"}
        left_out: dict[str, Any] = {"description": True, "budget": how, "grpo": {"report_to", "run_name"}}
        if self.budget.min_completion_length:  # between it and what was asked for, memory decides
            left_out["grpo"].add("max_completion_length")
        longest = "max_completion_length"
        return self.grpo[longest] <= other.grpo[longest] and (
            self.model_dump(exclude=left_out) == other.model_dump(exclude=left_out)
        )

    def to_toml(self) -> str:
        return tomli_w.dumps(self.model_dump(exclude_none=True))


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
    if Path(name).name != name:
        raise SettingError(f"{path.name}: name = {name!r}: names the run folder, so it must be a plain file name")
    if "preset" in read:
        base = _read(read["preset"], (*above, path))
    else:  # what nothing stands below says all of its rewards, or has its task's
        base = {"rewards": {} if "rewards" in read else _default_rewards(read)}
    for table in TABLES:
        base[table] = {**base.get(table, {}), **_moved(table, read.get(table, {}))}
    return base | {"name": name, "description": read.get("description", "")}


def _tables(path: Path, source: str | Path) -> dict[str, Any]:
    """A recipe file's content, every table known and every other value a text."""
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"recipe {str(source)!r}: cannot read it ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"recipe {str(source)!r}: not TOML: {error}") from None
    known = ("preset", "name", "description", *TABLES)
    for key, value in read.items():
        if key not in known:
            raise SettingError(f"{path.name}: {key}: no such table{nearest(key, known)} There are: {', '.join(known)}")
        if (key in TABLES) is not isinstance(value, dict):
            raise SettingError(f"{path.name}: {key} = {value!r}: must be {'a table' if key in TABLES else 'a text'}")
        if key not in TABLES and not isinstance(value, str):
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
        return f"{Path(file).expanduser().absolute()}:{function}{settings}"
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
    if Path(tables["model"]["model_name"]).is_dir():
        tables["model"]["model_name"] = str(Path(tables["model"]["model_name"]).absolute())
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
        tripwires=_own_table(Tripwires, "tripwires", tables["tripwires"]),
        evaluation=_own_table(Evaluation, "evaluation", tables["evaluation"]),
    )
    try:
        recipe.to_toml()
    except TypeError as error:
        raise SettingError(
            f"recipe {recipe.name!r}: a value that TOML cannot hold ({error}); write it as a text"
        ) from None
    columns = recipe.load_task().reward_columns()
    for name, function in zip(recipe.rewards, recipe.reward_functions(), strict=True):
        try:
            check_signature(function, columns)
        except ValueError as error:
            raise SettingError(f"rewards.{name}: {error}") from None
    return recipe


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


class Text(str):
    """A value from the command line: TOML where that fits the setting's type, the bare text otherwise."""


def _typed(kind: Any, value: Any, setting: str) -> Any:
    """`value` if it is of the type `kind` (an int counts as a float), else a SettingError."""
    candidates = [value]
    if isinstance(value, Text):
        candidates = [str(value)]
        with contextlib.suppress(tomllib.TOMLDecodeError):
            read = tomllib.loads(f"value = {value}")["value"]
            # where the library says no type, a number that would be printed otherwise was meant as a text
            if kind is not Any or isinstance(read, bool | list | dict) or str(read) == str(value):
                candidates.insert(0, read)
    problems = []
    for candidate in candidates:
        try:
            return TypeAdapter(kind).validate_python(candidate, strict=True)
        except ValidationError as error:
            problems.append(error.errors()[0]["msg"])
    raise SettingError(f"{setting} = {value if isinstance(value, Text) else repr(value)}: {problems[0]}")


def _passed_through(table: str, key: str, value: Any) -> Any:
    known = signatures.accepted(table)
    if known is None:  # the library is not here, as where a recipe is only looked at
        return _typed(Any, value, f"{table}.{key}")
    if key not in known:
        raise SettingError(
            f"{table}.{key} = {value!r}: {signatures.OWNERS[table]} has no such argument{nearest(key, known)}"
        )
    return _typed(str if key in NAMES else known[key], value, f"{table}.{key}")


TableT = TypeVar("TableT", bound=_Table)


def _own_table(kind: type[TableT], table: str, values: Mapping[str, Any]) -> TableT:
    fields = kind.model_fields
    for key in values:
        if key not in fields:
            raise SettingError(f"{table}.{key}: no such setting{nearest(key, fields)} There are: {', '.join(fields)}")
    typed = {key: _typed(fields[key].annotation, value, f"{table}.{key}") for key, value in values.items()}
    try:
        return kind(**typed)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingError(f"{table}.{key} = {first.get('input')!r}: {first['msg']}") from None


def _checked_task(values: dict[str, Any], seed: int) -> dict[str, Any]:
    """The [task] table with its seed, its paths absolute, and nothing in it that the task does not take."""
    common = _own_table(Prompts, "task", {key: value for key, value in values.items() if key in Prompts.model_fields})
    options = task_options(common.name)
    for key in values:
        if key not in options and key not in Prompts.model_fields:
            known = [*Prompts.model_fields, *options]
            raise SettingError(
                f"task.{key}: the task {common.name!r} has no such setting{nearest(key, known)} "
                f"It has: {', '.join(known)}"
            )
    chosen = {key: _typed(options[key], values[key], f"task.{key}") for key in options if key in values}
    for key in ("path", "test_path"):
        if chosen.get(key) is not None:
            chosen[key] = str(Path(chosen[key]).expanduser().absolute())
    chosen.setdefault("seed", seed)
    return common.model_dump(exclude_none=True) | chosen


def _checked_budget(values: Mapping[str, Any]) -> Budget:
    """The [budget] table, the mirror's folder absolute."""
    budget = _own_table(Budget, "budget", values)
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
    return budget.model_copy(update={"mirror": str(Path(budget.mirror).expanduser().absolute())})


def _weights(rewards: Mapping[str, Any]) -> dict[str, float]:
    """Reward -> weight, without those that are set to false; 0 keeps a reward in the log alone."""
    weights: dict[str, float] = {}
    metrics: dict[str, str] = {}
    for name, given in rewards.items():
        weight = _typed(float | bool, given, f"rewards.{name}")
        if weight is False:
            continue
        if weight is True or not math.isfinite(weight):
            raise SettingError(f"rewards.{name} = {weight!r}: must be a finite weight, or false to take the reward out")
        metric = reward_name(_reward(name))
        if metric in metrics:
            raise SettingError(
                f"rewards.{name}: would be logged as {metric!r}, and so would {metrics[metric]}; rename one"
            )
        metrics[metric] = name
        weights[name] = float(weight)
    if not any(weights.values()):
        raise SettingError("rewards: none has a weight that is not 0; write for instance correctness = 1.0")
    return weights


def _reward(name: str) -> Callable[..., Any]:
    try:
        return resolve_reward(name)
    except ValueError as error:
        raise SettingError(f"rewards.{name}: {error}") from None
