"""How a policy is asked: what its chat template gets, and how its answers are decoded.

Training, evaluation, prompt lengths, the checks of a run and a person's own question all ask by the same `Asking`, so a
setting of [grpo] that changes a prompt or an answer reaches them all. The sampling is training's own: an evaluation
answers greedily.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError, one_line, one_of
from grpo_colab.policy.engine import check_standby

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.tasks import Message
    from grpo_colab.utils.device import Device

# Arguments of generate() that grpo.generation_kwargs may not have, and what to write instead.
DECIDED: Final[Mapping[str, str]] = {
    "max_new_tokens": "write grpo.max_completion_length, and evaluation.max_completion_tokens",
    "max_length": "write grpo.max_completion_length, and evaluation.max_completion_tokens",
    "max_time": "take it out: completions of a group would end at different lengths by chance",
    "do_sample": "take it out: the completions of a group are sampled, and an evaluation is greedy",
    "temperature": "write grpo.temperature",
    "top_p": "write grpo.top_p",
    "top_k": "write grpo.top_k",
    "min_p": "write grpo.min_p",
    "repetition_penalty": "write grpo.repetition_penalty",
    "cache_implementation": "write grpo.cache_implementation",
    "num_return_sequences": "write grpo.num_generations",
    "num_beams": "take it out: the completions of a group are sampled",
    "num_beam_groups": "take it out: the completions of a group are sampled",
    "stop_strings": "take it out: generate() needs the tokenizer for them, which TRL does not pass",
    "eos_token_id": "take it out: the tokenizer's own end token ends a completion",
    "pad_token_id": "take it out: the tokenizer's own tokens are used",
    "bos_token_id": "take it out: the tokenizer's own tokens are used",
    "return_dict_in_generate": "take it out: TRL reads the tokens alone",
    "output_scores": "take it out: TRL reads the tokens alone",
    "output_logits": "take it out: TRL reads the tokens alone",
    "output_attentions": "take it out: TRL reads the tokens alone",
    "output_hidden_states": "take it out: TRL reads the tokens alone",
    "prompt_lookup_num_tokens": "take it out: a batch is generated together",
    "assistant_early_exit": "take it out: a batch is generated together",
    "is_assistant": "take it out: a batch is generated together",
    "use_mtp": "take it out: a batch is generated together",
    "token_healing": "take it out: generate() needs the tokenizer for it, which TRL does not pass",
    "dola_layers": "take it out: it needs code from the hub",
    "constraints": "take it out: the completions of a group are sampled",
    "force_words_ids": "take it out: the completions of a group are sampled",
    "compile_config": "take it out: TRL does not compile the generation",
    "disable_compile": "take it out: TRL does not compile the generation",
    "transformers_version": "take it out: it decides nothing",
    "_from_model_config": "take it out: it decides nothing",
}
# The same of vLLM's SamplingParams.
DECIDED_WITH_VLLM: Final[Mapping[str, str]] = {
    "max_tokens": "write grpo.max_completion_length, and evaluation.max_completion_tokens",
    "n": "write grpo.num_generations",
    "logprobs": "take it out: TRL asks for what it needs",
    "prompt_logprobs": "take it out: TRL asks for what it needs",
    "detokenize": "take it out: TRL reads the tokens",
    "stop_token_ids": "take it out: the tokenizer's own end token ends a completion",
    "ignore_eos": "take it out: the tokenizer's own end token ends a completion",
}
# Settings of [grpo] that change an answer in training alone.
TRAINING_ALONE: Final[Mapping[str, str]] = {
    "vllm_structured_outputs_regex": "take it out: an evaluation would be free of it",
}


@dataclass(frozen=True)
class Asking:
    """What a prompt is rendered with, and what decides an answer beside the sampling."""

    template: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of the chat template
    decoding: Mapping[str, Any] = field(default_factory=dict)  # of generate(), or with vLLM of its SamplingParams
    merged: bool = False  # with the adapter merged into the base, where that changes nothing

    @classmethod
    def of(cls, recipe: Recipe) -> Asking:
        """Return how [grpo] of a recipe asks: by chat_template_kwargs, generation_kwargs and repetition_penalty.

        [sampling] says whether it does so with the adapter merged.
        """
        decoding: dict[str, Any] = {"repetition_penalty": 1.0}  # TRL's default; a model's own configuration has others
        for key in ("repetition_penalty", "cache_implementation"):
            if recipe.grpo.get(key) is not None:
                decoding[key] = recipe.grpo[key]
        template, given = _table(recipe, "chat_template_kwargs"), _table(recipe, "generation_kwargs")
        return cls(template, {**decoding, **given}, recipe.sampling.merge_adapter)

    def prompt_text(self, tokenizer: Any, prompt: Sequence[Message], generation_prompt: bool = True) -> str:
        """Return a conversation as the tokenizer's chat template writes it, up to where the answer begins.

        Without `generation_prompt`, return it up to where its last message ends.
        """
        return tokenizer.apply_chat_template(
            list(prompt), tokenize=False, add_generation_prompt=generation_prompt, **self.template
        )

    def prompt_ids(self, tokenizer: Any, prompt: Sequence[Message]) -> list[int]:
        """Return the tokens of `prompt_text`; the template has written the special tokens already."""
        return tokenizer(self.prompt_text(tokenizer, prompt), add_special_tokens=False)["input_ids"]


def rendering_errors() -> tuple[type[Exception], ...]:
    """Return the classes of what is raised for a conversation that a chat template does not write."""
    from jinja2 import TemplateError

    return (TemplateError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError)


def check_asking(recipe: Recipe, device: Device) -> None:
    """Raise SettingError for a setting of [grpo] that cannot decide how the policy is asked, before it is loaded.

    transformers is asked: the configuration of the generation is made as TRL makes it. With vLLM on this device the
    arguments are those of its SamplingParams, which vLLM itself refuses, and its engine must be able to wake.
    """
    for key, remedy in TRAINING_ALONE.items():
        if recipe.grpo.get(key) is not None:
            problem = "changes the answers of the training alone"
            raise SettingError(problem, setting=f"grpo.{key}", value=recipe.grpo[key], remedy=remedy)
    _check_template_arguments(recipe)
    with_vllm = bool(recipe.model.get("fast_inference")) and device.vllm
    given = _table(recipe, "generation_kwargs")
    decided = {**DECIDED, **DECIDED_WITH_VLLM} if with_vllm else DECIDED
    for key, value in given.items():
        if key in decided:
            setting = f"grpo.generation_kwargs.{key}"
            raise SettingError("is decided elsewhere", setting=setting, value=value, remedy=decided[key])
    if with_vllm:
        check_standby(recipe)
    else:
        _check_generation(recipe, given)


def _check_template_arguments(recipe: Recipe) -> None:
    """Raise SettingError for a key of grpo.chat_template_kwargs that is an argument of the rendering itself."""
    from transformers import PreTrainedTokenizerBase

    template = _table(recipe, "chat_template_kwargs")
    own = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
    for key, value in template.items():
        if key in own and key not in ("documents", "kwargs"):
            raise SettingError(
                "is an argument of the rendering, which TRL decides",
                setting=f"grpo.chat_template_kwargs.{key}",
                value=value,
                remedy="write variables of the model's own chat template, such as enable_thinking = false",
            )


def _check_generation(recipe: Recipe, given: Mapping[str, Any]) -> None:
    """Raise SettingError for what generate() refuses: unknown arguments, and values out of their bounds."""
    from transformers import GenerationConfig
    from transformers.generation import logits_process as processors

    known = GenerationConfig().to_dict()
    for key, value in given.items():
        if key not in known:
            setting, remedy = f"grpo.generation_kwargs.{key}", one_of(key, [one for one in known if one not in DECIDED])
            raise SettingError("generate() has no such argument", setting=setting, value=value, remedy=remedy)
    grpo = recipe.grpo
    if grpo.get("cache_implementation") == "paged":
        problem, remedy = "is for another way of generating", "write 'static' or 'dynamic', or take it out"
        raise SettingError(problem, setting="grpo.cache_implementation", value="paged", remedy=remedy)
    checks = {
        "repetition_penalty": processors.RepetitionPenaltyLogitsProcessor,
        "top_p": processors.TopPLogitsWarper,
        "min_p": processors.MinPLogitsWarper,
        "top_k": lambda value: value and processors.TopKLogitsWarper(value),  # 0 is for none
        "cache_implementation": lambda value: GenerationConfig(cache_implementation=value).validate(strict=True),
    }
    for key, check in checks.items():
        if grpo.get(key) is None:
            continue
        try:
            check(grpo[key])
        except (ValueError, TypeError) as error:
            problem = f"transformers refuses it ({one_line(error)})"
            raise SettingError(
                problem, setting=f"grpo.{key}", value=grpo[key], remedy="write what it asks for"
            ) from error
    try:
        config = GenerationConfig(do_sample=True, **given, disable_compile=True)
        config.validate(strict=True)
        mode = config.get_generation_mode()
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingError(
            f"transformers refuses it ({one_line(error)})",
            setting="grpo.generation_kwargs",
            value=dict(given),
            remedy="write what its message asks for, or take it out",
        ) from error
    if mode != "sample":
        problem = f"asks for another way of generating ({getattr(mode, 'value', mode)}), and completions are sampled"
        raise SettingError(problem, setting="grpo.generation_kwargs", value=dict(given), remedy="take that out")


def _table(recipe: Recipe, key: str) -> dict[str, Any]:
    """Return a table of [grpo], empty where it is not set. TRL also takes it as a text of JSON.

    Raises SettingError for anything else.
    """
    given = recipe.grpo.get(key)
    value = given
    if isinstance(given, str):
        try:
            value = json.loads(given)
        except ValueError:
            value = None
    if value is None and given is None:
        return {}
    if not isinstance(value, dict):
        raise SettingError("is no table", setting=f"grpo.{key}", value=given, remedy="write { name = value }")
    return value
