"""Check a tokenizer before the weights are loaded: can its chat template write the prompts, and does an answer end?

A recipe may bring a chat template of its own, as model.chat_template. It takes the place of the model's everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.policy.asking import Asking, rendering_errors
from grpo_colab.policy.turns import check_end_of_turn, ends_of_turn, text_tokenizer
from grpo_colab.recipe.validation import CHAT_TEMPLATE
from grpo_colab.tasks.conversations import without_system
from grpo_colab.utils.hub import check_hub
from grpo_colab.utils.library_output import library_lines_once

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.tasks import Message, Problem, Task

INSTRUCT: Final = "take the model's instruct version"


def load_tokenizer(recipe: Recipe, may_run_code: bool = False, download: bool = True) -> Any:
    """Return the tokenizer of the recipe's model, downloaded where it is on the hub; None where it cannot be loaded.

    Without `download` it is one that is on this machine already, or None. Whoever loads the model then says why. The
    model's own Python is run only with `may_run_code`, for which the recipe must have been trusted, and where its
    trust_remote_code says so. Nobody is asked for it.
    """
    from transformers import AutoTokenizer

    options: dict[str, Any] = {key: recipe.model[key] for key in ("revision", "token") if key in recipe.model}
    options["trust_remote_code"] = may_run_code and bool(recipe.model.get("trust_remote_code"))
    options["local_files_only"] = not download
    try:
        if download:
            check_hub(recipe.model_path)
        with library_lines_once():  # whoever loads the model hears the same
            return AutoTokenizer.from_pretrained(recipe.model_path, **options)
    except Exception:  # noqa: BLE001 - no network, no such file, or a class that is not installed
        return None


def with_chat_template(recipe: Recipe, tokenizer: Any) -> Any:
    """Give a tokenizer or a processor the chat template of model.chat_template, and return it.

    Without that setting it keeps the model's own. A `tokenizer` of None, which could not be loaded, stays None.
    """
    template = recipe.model.get(CHAT_TEMPLATE)
    if template is not None and tokenizer is not None:
        tokenizer.chat_template = text_tokenizer(tokenizer).chat_template = template
    return tokenizer


def check_prompts(recipe: Recipe, task: Task, problems: Sequence[Problem], tokenizer: Any) -> None:
    """Raise SettingError for a tokenizer that cannot write the prompt of each problem, or cannot end an answer.

    The error names the setting, or the place of a problem that the template refuses or leaves out in part, and offers a
    way. A `tokenizer` of None, which could not be loaded, is not checked: the loader says why.
    """
    if tokenizer is None:
        return
    check_tokenizer(recipe, tokenizer)
    asking = Asking.of(recipe)
    for problem in problems:
        trouble = _trouble(asking, tokenizer, task.messages(problem))
        if trouble is None:
            continue
        own = list(problem.messages or [{"role": "user", "content": problem.question}])
        if task.system_prompt and own[0]["role"] != "system" and _trouble(asking, tokenizer, own) is None:
            raise SettingError(
                f"the model's chat template takes no system message ({trouble})",
                setting="task.system_prompt",
                value=task.system_prompt,
                remedy='write task.system_prompt = "", and ask for the format in the problems, or take another model',
            )
        remedy = "write model.chat_template, the file of a template that takes it, or take another model"
        if own[0]["role"] == "system" and _trouble(asking, tokenizer, without_system(own)) is None:
            remedy = "take the system message out of the data, or take another model"
        raise SettingError(
            f"the model's chat template refuses the prompt ({trouble})", remedy=remedy, place=problem.source or None
        )


def check_tokenizer(recipe: Recipe, tokenizer: Any) -> None:
    """Raise SettingError for a tokenizer without a chat template or without an end token, also one of its template.

    Also raises it for turns that end in what is no token, and for a recipe's own chat template that is no Jinja, or
    that writes no prompt: neither the user's message alone nor one with a system message before it.
    """
    named: dict[str, Any] = {"setting": "model.model_name", "value": recipe.model["model_name"]}
    if not getattr(tokenizer, "chat_template", None):
        raise SettingError(
            "its tokenizer has no chat template, so that no prompt can be written",
            remedy=f'{INSTRUCT}, or write model.chat_template = "template.jinja", the file of one',
            **named,
        )
    if CHAT_TEMPLATE in recipe.model:
        _check_own_template(recipe, tokenizer)
    asking = Asking.of(recipe)
    check_end_of_turn(recipe, tokenizer, asking)
    if text_tokenizer(tokenizer).eos_token_id is None and not ends_of_turn(tokenizer, asking):
        raise SettingError(
            "its tokenizer has no end token, so that no answer could end",
            remedy=f"{INSTRUCT}, or write eos_token into its tokenizer_config.json",
            **named,
        )


def _check_own_template(recipe: Recipe, tokenizer: Any) -> None:
    """Raise SettingError for a template of the recipe's own that no prompt can be written with."""
    asking, user = Asking.of(recipe), {"role": "user", "content": "What is 1 + 1?"}
    for generation_prompt in (True, False):
        trouble = _trouble(asking, tokenizer, [user], generation_prompt)
        with_system = [{"role": "system", "content": "Answer in one word."}, user]
        if trouble is None or _trouble(asking, tokenizer, with_system, generation_prompt) is None:
            continue
        raise SettingError(
            f"writes no prompt{'' if generation_prompt else ' without add_generation_prompt'} ({trouble})",
            setting=f"model.{CHAT_TEMPLATE}",
            value=recipe.model[CHAT_TEMPLATE],
            remedy="mend its file, or take the setting out, so that the model's own template is used",
        )


def _trouble(asking: Asking, tokenizer: Any, prompt: Sequence[Message], generation_prompt: bool = True) -> str | None:
    """Return on one line why the chat template does not write a prompt; None where it does.

    A message that it leaves out is a reason, too: then different problems could be one prompt. What an assistant said
    does not count, since some templates take its reasoning out.
    """
    from jinja2 import TemplateSyntaxError

    try:
        written = " ".join(asking.prompt_text(tokenizer, prompt, generation_prompt).split())
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {one_line(error)}"
    except rendering_errors() as error:
        return one_line(error)
    for number, message in enumerate(prompt, 1):
        if message["role"] != "assistant" and " ".join(message["content"].split()) not in written:
            return f"it leaves out message {number}, of the role {message['role']!r}"
    return None
