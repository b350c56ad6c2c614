"""Declare the tables of a recipe that are ours: their settings with types, bounds and help texts.

Also here: the settings that have moved, and the conversion of a value to its type. What connects several settings is
checked in `validation`.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from grpo_colab.errors import SettingError, one_of
from grpo_colab.utils.files import expanded

STEP_CAP = 250

# Settings with another name in older releases of the libraries, or in another table here: old name -> today's name.
RENAMED: Final = {
    "grpo.max_steps": "budget.max_steps",
    "grpo.max_prompt_length": "task.max_prompt_tokens",
    "grpo.warmup_ratio": "grpo.warmup_steps",  # since transformers 5 a warmup_steps below 1 is a share of all steps
    "model.torch_dtype": "model.dtype",
    "lora.rank": "lora.r",
    "lora.alpha": "lora.lora_alpha",
}
# Arguments of GRPOConfig that are computed from other settings -> what to write instead.
DERIVED: Final = {
    "grpo.per_device_train_batch_size": "set budget.micro_batch instead",
    "grpo.gradient_accumulation_steps": "set budget.prompts_per_step instead",
    "grpo.generation_batch_size": "set budget.prompts_per_step instead",
    "grpo.steps_per_generation": "set budget.prompts_per_step instead",
    "grpo.num_train_epochs": "set budget.max_steps instead",
    "grpo.output_dir": "use --out, or train(recipe, out=...)",
    "grpo.reward_weights": "set the weights in [rewards] instead",
    "grpo.logging_steps": "take it out: a run logs every step",
    "grpo.resume_from_checkpoint": "use --resume RUN",
    "grpo.use_vllm": "set model.fast_inference instead",
    "grpo.eval_strategy": "set [evaluation] instead, which evaluates before and after training",
    "grpo.do_eval": "set [evaluation] instead, which evaluates before and after training",
    "grpo.push_to_hub": 'set budget.mirror = "hf://user/repository" instead',
    "grpo.save_only_model": "take it out: a run resumes from its checkpoints, which need everything",
}


class Table(BaseModel):
    """A table of a recipe: immutable, without unknown settings, and without conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Budget(Table):
    """How long a run trains and what it saves. A step has prompts_per_step x grpo.num_generations completions."""

    max_steps: int = Field(STEP_CAP, ge=1, description="optimiser steps; more than 250 needs uncapped = true")
    uncapped: bool = Field(False, description="allow more than 250 steps")
    prompts_per_step: int = Field(1, ge=1, description="different prompts in one optimiser step")
    micro_batch: int = Field(0, ge=0, description="completions per backward pass on one device; 0: as many as fit")
    min_completion_length: int | None = Field(
        None, ge=1, description="tokens to which grpo.max_completion_length may be cut if memory is short"
    )
    rehearsal: bool = Field(
        True,
        description="first try a step with the longest prompt and completions of full length, unless a CPU has memory "
        "to spare",
    )
    max_hours: float | None = Field(
        None, ge=0, description="hours of one session; the run stops in time to save and evaluate"
    )
    save_minutes: float = Field(
        5.0, ge=0, description="minutes between checkpoints, in addition to grpo.save_steps; 0: by steps only"
    )
    mirror: str | None = Field(None, description="a folder, or hf://user/repository, that gets a copy of the run")
    mirror_minutes: float = Field(
        30.0, ge=0, description="minutes between two copies to the mirror; the run's end and a stop are copied at once"
    )
    stop_at_reward: float | None = Field(
        None, description="end the run as solved when the weighted rewards of one completion reach this"
    )

    @field_validator("mirror")
    @classmethod
    def _absolute(cls, mirror: str | None) -> str | None:
        """Return the path of a folder made absolute, or a repository of the hub unchanged.

        An empty text becomes None, so that an override can switch off the mirror of a preset. Raises SettingError for a
        text that begins with hf:// and does not go on as user/repository.
        """
        if not mirror:
            return None
        if not mirror.startswith("hf://"):
            return str(expanded(mirror).absolute())
        if re.fullmatch(r"hf://[\w.-]+/[\w.-]+", mirror):
            return mirror
        problem, remedy = "is no repository of the hub", "write hf://user/repository, or a folder"
        raise SettingError(problem, setting="budget.mirror", value=mirror, remedy=remedy)

    @model_validator(mode="after")
    def _capped(self) -> Self:
        """Raise SettingError for more than STEP_CAP steps, unless `uncapped` allows them."""
        if self.max_steps > STEP_CAP and not self.uncapped:
            raise SettingError(
                f"more than {STEP_CAP}",
                setting="budget.max_steps",
                value=self.max_steps,
                remedy=f"write {STEP_CAP} or fewer, or budget.uncapped = true",
            )
        return self


class Tripwires(Table):
    """What stops a run at its last good checkpoint, or takes it back to its best; 0 or false turns one off."""

    non_finite: bool = Field(True, description="a loss, a gradient or a reward that is NaN or infinite")
    max_kl: float = Field(10.0, ge=0, description="KL to the base model in nats per token, three steps in a row")
    max_length_growth: float = Field(
        4.0, ge=0, description="completions this many times as long as at the start, without more reward"
    )
    gibberish: float = Field(
        2.0, ge=0, description="nats per token that the policy's samples lose under the base model"
    )
    collapse: bool = Field(
        False,
        description="the probe (the reward without one) falls from its best by more than its noise while entropy, "
        "length or the groups run away: back to the best checkpoint, once, with half the learning rate",
    )


class Sampling(Table):
    """What a step practises, and which of its completions it learns from. All off, it is exactly TRL's."""

    strategy: Literal["uniform", "adaptive"] = Field(
        "uniform",
        description="uniform: TRL's own order; adaptive: problems that are expected to come out right half of the time",
    )
    prior: str | None = Field(
        None, description="strategy adaptive: a file of `grpo-colab difficulty`, to begin with what it found"
    )
    refill: int = Field(
        0, ge=0, description="times that a step samples again while too few groups differ in what is right"
    )
    generate_more: int | Literal["auto"] = Field(
        0,
        description="completions sampled per prompt, of which the grpo.num_generations with the widest rewards are "
        "learnt from; 0: no more than these; auto: as many as the plan finds memory and time for",
    )
    skip_zero_advantage: bool = Field(
        False, description="spend no forward and backward pass on completions that have no gradient"
    )
    merge_adapter: bool = Field(
        False,
        description="generate with the adapter merged into the base, where that changes no answer: a float32 base on "
        "a CPU",
    )
    hints: Literal["none", "solution"] = Field(
        "none",
        description="solution: ask again, with the first steps of the gold solution in the prompt, where all "
        "completions of a group are wrong",
    )
    hint_share: float = Field(
        0.5, gt=0, lt=1, description="share of the steps that a hint shows; it falls to nothing towards the last step"
    )

    def per_prompt(self, group: int) -> int:
        """Return the completions sampled of a prompt, of which `group` are learnt from: these alone for "auto"."""
        return self.generate_more if isinstance(self.generate_more, int) and self.generate_more else group


class Evaluation(Table):
    """The held-out problems that the policy answers greedily, before and after training."""

    n: int = Field(256, ge=1, description="problems")
    split: Literal["train", "test"] = Field("test", description="train or test")
    batch_size: int = Field(0, ge=0, description="problems answered at once; 0: as many as fit")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="longest answer; grpo.max_completion_length when left out"
    )
    every: int = Field(0, ge=0, description="steps after which the probe is asked during the training; 0: not at all")
    probe: int = Field(
        64, ge=1, description="problems in the probe: those of the split that come after the n that are held out"
    )


class Hindsight(Table):
    """How one image is learnt at test time, in budget.max_steps iterations."""

    method: Literal["grpo", "her", "both"] = Field(
        "grpo", description="grpo, her (hindsight experience replay), or both"
    )
    samples: int = Field(64, ge=1, description="programs sampled per iteration")
    temperature: float = Field(0.9, gt=0, description="sampling temperature of these programs")
    heat: float = Field(
        1.0, ge=0, description="raise that temperature by this times the share of repeated drawings above 1/4"
    )
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling: the share of probability to sample from")
    cold_samples: int = Field(8, ge=0, description="further programs per iteration, sampled nearly greedily")
    cold_temperature: float = Field(0.1, gt=0, description="sampling temperature of the cold samples")
    learning_rate: float = Field(
        1e-3, gt=0, description="learning rate on drawings that are relabelled as if they had been asked for"
    )
    batch_size: int = Field(4, ge=1, description="pairs of a drawing and its program per optimiser step")
    variations: int = Field(0, ge=0, description="also learn so many randomly changed programs per iteration")
    max_grad_norm: float = Field(1.0, gt=0, description="clip the gradient to this norm")
    near: float = Field(0.0, ge=0, description="method both: from this reward on also learn from the real image")
    goal_weight: float = Field(1.0, ge=0, description="method both: weight of the real image's advantages")


class Pretraining(Table):
    """Supervised training before the reinforcement learning, kept and used again.

    It is on random drawings for a drawing, none of which comes twice, and on the golden completions of the training
    problems for every other task.
    """

    steps: int = Field(6000, ge=0, description="optimiser steps; 32 where nothing is drawn; 0: none")
    batch_size: int = Field(16, ge=1, description="examples per optimiser step; 8 where nothing is drawn")
    micro_batch: int = Field(
        8, ge=1, description="examples per backward pass; must divide batch_size; 4 where nothing is drawn"
    )
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    lr_scheduler_type: str = Field("cosine", description="name of a schedule of transformers")
    warmup_steps: float = Field(0.03, ge=0, description="steps of warmup; below 1: a share of all steps")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        """Raise SettingError unless a batch is a whole number of micro-batches."""
        if self.batch_size % self.micro_batch:
            raise SettingError(
                f"does not divide pretraining.batch_size = {self.batch_size}",
                setting="pretraining.micro_batch",
                value=self.micro_batch,
                remedy="write a number that does",
            )
        return self


class Prompts(Table):
    """The settings that every task has."""

    name: str = Field(description="the task's name, or `my_task.py:MyTask`, `package.module:MyTask`, ...")
    max_prompt_tokens: int = Field(256, ge=1, description="leave out longer prompts, and report how many")
    limit: int | None = Field(None, ge=1, description="train on this many problems only, the first ones")


class Text(str):
    """A value from the command line: TOML if that fits the type of the setting, else the bare text."""


# pydantic's type of a complaint -> the problem, and the remedy. Names in braces are pydantic's own fields.
_BOUNDS: Final = {
    "greater_than_equal": ("is too small", "write {ge} or more"),
    "greater_than": ("is too small", "write a number above {gt}"),
    "less_than_equal": ("is too large", "write {le} or less"),
    "less_than": ("is too large", "write a number below {lt}"),
    "literal_error": ("is not one of the choices", "write {expected}"),
}
_TYPES: Final = {
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "float_type": "write a number",
    "string_type": "write a text",
    "list_type": "write a list",
    "dict_type": "write a table",
}


def typed(kind: Any, value: Any, setting: str) -> Any:
    """Return `value` if it is of the type `kind`, where an int counts as a float; raise SettingError otherwise.

    A `Text` is tried as TOML first, and then as the bare text. If `kind` is Any, a number that does not print as it was
    written, such as 1e10, stays a text. `setting` is the dotted name for the refusal.
    """
    candidates = [value]
    if isinstance(value, Text):
        candidates = [str(value)]
        with contextlib.suppress(tomllib.TOMLDecodeError):
            parsed = tomllib.loads(f"value = {value}")["value"]
            # If the library declares no type, a number stays a number only if it prints as it was written. Otherwise
            # it was meant as a text, such as the commit 1e10.
            if kind is not Any or isinstance(parsed, bool | list | dict) or str(parsed) == str(value):
                candidates.insert(0, parsed)
    complaints = []
    for candidate in candidates:
        try:
            return TypeAdapter(kind).validate_python(candidate, strict=True)
        except ValidationError as error:
            complaints.append(error.errors())
    raise _refusal(complaints[0], setting, str(value) if isinstance(value, Text) else value)


TableT = TypeVar("TableT", bound=Table)


def own_table(kind: type[TableT], table: str, values: Mapping[str, Any]) -> TableT:
    """Return an instance of `kind`, the class of the recipe's `table`, with these values.

    Raises SettingError for an unknown setting, and for a value that does not fit.
    """
    fields = kind.model_fields
    for key in values:
        # The refusal does not quote the value: under an unknown name it may be a secret.
        if key not in fields:
            raise SettingError("no such setting", setting=f"{table}.{key}", remedy=one_of(key, fields))
    values = {key: typed(fields[key].annotation, value, f"{table}.{key}") for key, value in values.items()}
    try:
        return kind(**values)
    except ValidationError as error:
        complaint = error.errors()[0]
        # A validator of the table's own raises SettingError, which pydantic wraps.
        raised = complaint.get("ctx", {}).get("error")
        if isinstance(raised, SettingError):
            raise raised from None
        setting = ".".join([table, *map(str, complaint["loc"])])
        raise _refusal([complaint], setting, complaint["input"]) from None


def _refusal(complaints: Sequence[ErrorDetails], setting: str, value: object) -> SettingError:
    """Return pydantic's complaints about the value of `setting`, one per type that it may have, as a SettingError."""
    complaint, *others = complaints
    kind = complaint["type"]
    if kind in _BOUNDS:
        problem, remedy = _BOUNDS[kind]
        return SettingError(problem, setting=setting, value=value, remedy=remedy.format(**complaint["ctx"]))
    if kind in _TYPES:
        words = "".join(f" or {other['ctx']['expected']}" for other in others if other["type"] == "literal_error")
        return SettingError("has the wrong type", setting=setting, value=value, remedy=_TYPES[kind] + words)
    return SettingError(complaint["msg"].replace("Input should be", "is not"), setting=setting, value=value)
