"""The tables of a recipe that are ours: their settings, types and bounds. A value that does not fit is refused."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from grpo_colab.errors import SettingError, one_of
from grpo_colab.text import is_secret, masked
from grpo_colab.utils.files import expanded

STEP_CAP = 250
BRINGS_CODE: Final = ("trust_remote_code", "use_kernels", "megatron_config", "megatron_core", "auto_mapping")

# Names that another release of the libraries has, or that have another table here: old name -> today's.
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
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Budget(Table):
    """How much is learnt: steps, completions per step (prompts_per_step x grpo.num_generations); and what is kept."""

    max_steps: int = Field(STEP_CAP, ge=1, description="optimiser steps; more than 250 needs uncapped = true")
    uncapped: bool = Field(False, description="allow more than 250 steps")
    prompts_per_step: int = Field(1, ge=1, description="different prompts in one optimiser step")
    micro_batch: int = Field(0, ge=0, description="completions per backward pass on one device; 0: by memory")
    min_completion_length: int | None = Field(
        None, ge=1, description="tokens that grpo.max_completion_length may be cut down to where memory asks for it"
    )
    rehearsal: bool = Field(True, description="first try a step at the longest prompt and the full completion length")
    max_hours: float | None = Field(
        None, ge=0, description="hours of one sitting; the run stops in time to save and evaluate"
    )
    save_minutes: float = Field(
        5.0, ge=0, description="minutes between checkpoints, beside grpo.save_steps; 0: by step alone"
    )
    mirror: str | None = Field(None, description="a folder, or hf://user/repository, that gets a copy of the run")
    stop_at_reward: float | None = Field(
        None, description="end the run as solved when the weighted rewards of one completion reach this"
    )

    @field_validator("mirror")
    @classmethod
    def _absolute(cls, mirror: str | None) -> str | None:
        """Return a repository of the hub as it is, a folder as its absolute path, and an empty text as none."""
        if not mirror:
            return None  # so that "" takes it away
        if not mirror.startswith("hf://"):
            return str(expanded(mirror).absolute())
        if re.fullmatch(r"hf://[\w.-]+/[\w.-]+", mirror):
            return mirror
        problem, remedy = "is no repository of the hub", "write hf://user/repository, or a folder"
        raise SettingError(problem, setting="budget.mirror", value=mirror, remedy=remedy)

    @model_validator(mode="after")
    def _capped(self) -> Self:
        if self.max_steps > STEP_CAP and not self.uncapped:
            raise SettingError(
                f"more than {STEP_CAP}",
                setting="budget.max_steps",
                value=self.max_steps,
                remedy=f"write {STEP_CAP} or fewer, or budget.uncapped = true",
            )
        return self


class Tripwires(Table):
    """What stops a run at its last good checkpoint; 0 or false turns one off."""

    non_finite: bool = Field(True, description="a loss, a gradient or a reward that is NaN or infinite")
    max_kl: float = Field(10.0, ge=0, description="KL to the base model in nats per token, three steps in a row")
    max_length_growth: float = Field(
        4.0, ge=0, description="completions so many times as long as at the start, for no more reward"
    )
    gibberish: float = Field(
        2.0, ge=0, description="nats per token that the policy's samples lose under the base model"
    )


class Evaluation(Table):
    """The held-out problems that are answered greedily before and after."""

    n: int = Field(256, ge=1, description="problems")
    split: Literal["train", "test"] = Field("test", description="train or test")
    batch_size: int = Field(0, ge=0, description="problems answered at once; 0: by memory")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="longest answer; grpo.max_completion_length when left out"
    )


class Hindsight(Table):
    """How one image is learnt at test time; budget.max_steps are the iterations, a completion's limit is grpo's."""

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
    cold_temperature: float = Field(0.1, gt=0, description="sampling temperature of these")
    learning_rate: float = Field(
        1e-3, gt=0, description="learning rate on drawings that are relabelled as what was asked for"
    )
    batch_size: int = Field(4, ge=1, description="pairs of a drawing and its program per optimiser step")
    max_grad_norm: float = Field(1.0, gt=0, description="clip the gradient to this norm")
    near: float = Field(
        0.0, ge=0, description="method both: learn from the real image too once the best reward reaches this"
    )
    goal_weight: float = Field(1.0, ge=0, description="method both: weight of the real image's advantages")


class Pretraining(Table):
    """Supervised training on random drawings, before a real model is asked for any image; kept and found again."""

    steps: int = Field(6000, ge=0, description="optimiser steps; 0: none")
    batch_size: int = Field(16, ge=1, description="drawings per optimiser step; none comes twice")
    micro_batch: int = Field(8, ge=1, description="drawings per backward pass; must divide batch_size")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    lr_scheduler_type: str = Field("cosine", description="name of a schedule of transformers")
    warmup_steps: float = Field(0.03, ge=0, description="steps of warmup; below 1: a share of all steps")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.batch_size % self.micro_batch:
            raise SettingError(
                f"does not divide pretraining.batch_size = {self.batch_size}",
                setting="pretraining.micro_batch",
                value=self.micro_batch,
                remedy="write a number that does",
            )
        return self


class Prompts(Table):
    """What every task has in its [task] table beside its own options."""

    name: str = Field(description="the task's name")
    max_prompt_tokens: int = Field(256, ge=1, description="longer prompts are left out, and counted")
    limit: int | None = Field(None, ge=1, description="train on the first so many problems only")


class Text(str):
    """A value from the command line: TOML where that fits the setting's type, the bare text otherwise."""


# What pydantic complains of -> why that cannot work, and what to write instead.
_BOUNDS: Final = {
    "greater_than_equal": ("is too small", "write {ge} or more"),
    "greater_than": ("is too small", "write a number above {gt}"),
    "less_than_equal": ("is too large", "write {le} or less"),
    "literal_error": ("is no such choice", "write {expected}"),
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
    """Return `value` if it is of the type `kind` (an int counts as a float); raise SettingError otherwise."""
    candidates = [value]
    if isinstance(value, Text):
        candidates = [str(value)]
        with contextlib.suppress(tomllib.TOMLDecodeError):
            read = tomllib.loads(f"value = {value}")["value"]
            # Where the library names no type, a number that would be printed otherwise was meant as a text.
            if kind is not Any or isinstance(read, bool | list | dict) or str(read) == str(value):
                candidates.insert(0, read)
    failures = []
    for candidate in candidates:
        try:
            return TypeAdapter(kind).validate_python(candidate, strict=True)
        except ValidationError as error:
            failures.append(error.errors()[0])
    raise _refusal(failures[0], setting, str(value) if isinstance(value, Text) else value)


TableT = TypeVar("TableT", bound=Table)


def own_table(kind: type[TableT], table: str, values: Mapping[str, Any]) -> TableT:
    """Make the table called `table` of a recipe's values; raise SettingError for a value that does not fit."""
    fields = kind.model_fields
    for key in values:
        if key not in fields:  # its value may open something
            raise SettingError("no such setting", setting=f"{table}.{key}", remedy=one_of(key, fields))
    values = {key: typed(fields[key].annotation, value, f"{table}.{key}") for key, value in values.items()}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raised = first.get("ctx", {}).get("error")
        if isinstance(raised, SettingError):  # by a validator of the table's own
            raise raised from None
        raise _refusal(first, ".".join([table, *map(str, first["loc"])]), first["input"]) from None


def _refusal(complaint: ErrorDetails, setting: str, value: object) -> SettingError:
    """Return what pydantic says of a value as a refusal of the setting."""
    kind = complaint["type"]
    if kind in _BOUNDS:
        problem, remedy = _BOUNDS[kind]
        return SettingError(problem, setting=setting, value=value, remedy=remedy.format(**complaint["ctx"]))
    if kind in _TYPES:
        return SettingError("has the wrong type", setting=setting, value=value, remedy=_TYPES[kind])
    return SettingError(complaint["msg"].replace("Input should be", "is not"), setting=setting, value=value)


def brings_code(key: str, value: Any) -> bool:
    """Tell whether a setting, or one inside it, lets a model or a hub bring code: Python, or kernels."""
    inner = value if isinstance(value, Mapping | list | tuple) else _table_in(value)
    if isinstance(inner, Mapping):
        return any(brings_code(name, one) for name, one in inner.items()) or (key in BRINGS_CODE and bool(inner))
    if inner is not None:
        return any(brings_code(key, one) for one in inner)
    kernels = key == "attn_implementation" and isinstance(value, str) and "/" in value
    return kernels or (key in BRINGS_CODE and bool(value))


def without_keys(value: Any, secret: bool = False) -> Any:
    """Return a copy of a table without the texts that open something, however deep they are, and dots for parts.

    All that is in a `secret` is one.
    """
    if isinstance(value, Mapping):
        kept = {key: (inner, secret or is_secret(key)) for key, inner in value.items()}
        return {key: without_keys(*pair) for key, pair in kept.items() if not (pair[1] and isinstance(pair[0], str))}
    if isinstance(value, list | tuple):
        return [without_keys(inner, secret) for inner in value if not (secret and isinstance(inner, str))]
    if (table := _table_in(value)) is not None:
        return json.dumps(without_keys(table)) if any(keys_in(table)) else value
    return masked(value) if isinstance(value, str) else value


def keys_in(value: Any, setting: str = "", secret: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the settings in a table whose texts open something, with those texts."""
    inside = value if isinstance(value, Mapping | list | tuple) else _table_in(value)
    if isinstance(inside, Mapping):
        for key, inner in inside.items():
            yield from keys_in(inner, f"{setting}.{key}", secret or is_secret(key))
    elif inside is not None:
        for inner in inside:
            yield from keys_in(inner, setting, secret)
    elif isinstance(value, str) and value and (secret or masked(value) != value):
        yield setting, value


def _table_in(value: Any) -> Any:
    """Return the table or the list that a text is JSON of, as TRL takes some of its arguments; None for others."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return None
