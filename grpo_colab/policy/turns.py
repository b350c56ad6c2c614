"""Find what ends an assistant's turn in a model's chat template, and let it end every answer.

A tokenizer, a model's configuration and a chat template each name an end, and they differ in models that were
converted from GGUF, in base models with a borrowed template, and where the end of a turn is not the end of a text, as
in Gemma. An answer that its end does not stop runs on to the last token that it may have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.policy.asking import Asking, rendering_errors
from grpo_colab.recipe.validation import CHAT_TEMPLATE
from grpo_colab.utils.library_output import without_warnings_of

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe

ANSWER: Final = "Seven."
NEXT: Final = "Thanks."
# A text that is written like a token which marks something: <|im_end|>, <end_of_turn>, [/INST], </s>.
MARK: Final = re.compile(r"\s*(<[^<>\s]{1,40}>|\[/?[A-Z_]{2,40}\])")


def text_tokenizer(tokenizer: Any) -> Any:
    """Return the tokenizer inside a processor; a tokenizer is returned as it is."""
    return getattr(tokenizer, "tokenizer", tokenizer)


def closing(tokenizer: Any, asking: Asking) -> tuple[str, bool]:
    """Return what the chat template writes after an assistant's answer, and whether it closes the answer by itself.

    Where nothing is written after the last answer, it is what comes between an answer and the user's next message. The
    text is empty where the template writes neither, or cannot write such a conversation.
    """
    turns = [
        {"role": "user", "content": "What is 3 + 4?"},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": NEXT},
    ]
    try:
        _, answer, after = asking.prompt_text(tokenizer, turns[:2], generation_prompt=False).rpartition(ANSWER)
        if answer and after.strip():
            return after, True
        following = asking.prompt_text(tokenizer, turns, generation_prompt=False).rpartition(NEXT)[0]
        _, answer, after = following.rpartition(ANSWER)
    except rendering_errors():
        return "", False  # such as a template that takes a single question
    return after if answer else "", False


def ends_of_turn(tokenizer: Any, asking: Asking) -> list[int]:
    """Return the tokens by which the chat template ends an assistant's turn, or begins the next one.

    They are tokens that stand for themselves, such as <|im_end|>. The first of them ends the answer. The list is empty
    where the template writes none.
    """
    inner = text_tokenizer(tokenizer)
    after, closes = closing(tokenizer, asking)
    marks = {*inner.added_tokens_decoder, *inner.all_special_ids}
    found = [token for token in inner(after, add_special_tokens=False)["input_ids"] if token in marks]
    return found if closes else found[:1]  # the first begins the next turn, and others may come after it


def check_end_of_turn(recipe: Recipe, tokenizer: Any, asking: Asking) -> None:
    """Raise SettingError for a template whose turns end in what looks like a token, and is none of the tokenizer's."""
    after, closes = closing(tokenizer, asking)
    mark = MARK.match(after)
    if not closes or mark is None or ends_of_turn(tokenizer, asking):
        return
    setting = CHAT_TEMPLATE if CHAT_TEMPLATE in recipe.model else "model_name"
    end = text_tokenizer(tokenizer).eos_token
    remedy = f"write model.{CHAT_TEMPLATE}, the file of a template that ends its turns in {end!r}"
    raise SettingError(
        f"its turns end in {mark[1]!r}, which is no token of this model's tokenizer, so that it would end no answer",
        setting=f"model.{setting}",
        value=recipe.model[setting],
        remedy=remedy if end else "take the model's instruct version",
    )


def end_answers(model: Any, tokenizer: Any, asking: Asking) -> str:
    """Let the model's answers end where its chat template's turns do, and return a sentence on what that changes.

    Such an end becomes the tokenizer's end token, unless that is another of the same turn. A pad token that is missing
    or ends an answer becomes another token that the tokenizer has, if there is one. The model's configurations get the
    tokenizer's tokens. What its generation configuration declares as ends stays, and the template's ends come to them:
    TRL, generate() of transformers, and Unsloth read them there. The sentence is empty where every end was known.
    """
    from transformers.trainer_utils import align_special_tokens
    from unsloth_zoo.pad_token import fix_pad_token

    inner = text_tokenizer(tokenizer)
    known, named = end_tokens(model, tokenizer), inner.eos_token
    of_turn, (_, closes) = ends_of_turn(tokenizer, asking), closing(tokenizer, asking)
    if of_turn and inner.eos_token_id not in of_turn and (closes or named is None):
        inner.eos_token = inner.convert_ids_to_tokens(of_turn[0])
    fix_pad_token(inner, model=model, allow_add=False)
    if inner.pad_token_id is None:  # no token is free for it; TRL would do the same
        inner.pad_token = inner.eos_token
    with without_warnings_of("transformers.trainer_utils"):
        align_special_tokens(model, inner)
    model.generation_config.eos_token_id = list(dict.fromkeys([*end_tokens(model, tokenizer), *known, *of_turn[:1]]))

    if not of_turn or (inner.eos_token == named and of_turn[0] in known):
        return ""
    end = inner.convert_ids_to_tokens(of_turn[0])
    before = f"the tokenizer named {named}" if named else "the tokenizer named none"
    return f"An answer ends with {end}, as the turns of the chat template do; {before}."


def opened_tag(tokenizer: Any, asking: Asking) -> str | None:
    """Return the tag that the chat template opens where an answer begins, such as "<think>"; None where it does not."""
    try:
        prompt = asking.prompt_text(tokenizer, [{"role": "user", "content": "What is 3 + 4?"}])
    except rendering_errors():
        return None  # such as a template that must have a system message
    opened = re.search(r"<(?!assistant|model|bot)[a-z_]+>(?=\s*\Z)", prompt)  # not the header of a role
    return opened[0] if opened else None


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that ends an answer: the tokenizer's, and those of the model's generation configuration."""
    declared = model.generation_config.eos_token_id
    ends = [text_tokenizer(tokenizer).eos_token_id]
    ends += declared if isinstance(declared, list) else [declared]
    return list(dict.fromkeys(token for token in ends if token is not None))
