"""The functions that the notebook `colab/your_own_data.ipynb` calls for a file of one's own, one per cell.

    path = own_file(upload=True)
    recipe = own_recipe(path, kind="choice", prompt="ticket", answer="level", choices="1, 2, 3")
    look_for_holes(my_reward, recipe)

Training, the report and the rest are those of `grpo_colab.notebook`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.notebook import preset_for_this_gpu
from grpo_colab.recipe.recipe import DEFAULT_PRESET, Recipe
from grpo_colab.recipe.schema import Text
from grpo_colab.starter.starter import DEFAULT_KIND, starter_files
from grpo_colab.utils import files

SAMPLE = "sample.jsonl"
# The small model was made with this prompt, and begins to learn at once with it.
SMALL_PROMPT = "Think in <reasoning>, then give the number in <answer>."
SMALL_PROMPT_TOKENS = 256  # of the small model's context, which has 512
# Kinds of answers of which a reward may pay right answers differently, by the kind of audit that allows that.
AUDITED_AS = {"number": "scaled", "math": "scaled_expression"}


def own_file(path: str = "", upload: bool = False) -> str:
    """Return where the rows are: `path`, an uploaded file, or with neither the sample, which is written to SAMPLE.

    `upload` opens Colab's dialogue for one file. Raises SettingError outside Colab, where the dialogue is closed, and
    for several files. Whether the rows can be read is for `own_recipe`.
    """
    path = path.strip()
    if upload:
        return _uploaded()
    if path:
        return path
    files.write_out(SAMPLE, starter_files("sample", DEFAULT_KIND)["data.jsonl"])
    print(f"The sample, as {SAMPLE}. Its first lines:")
    print("".join(starter_files("sample", DEFAULT_KIND)["data.jsonl"].splitlines(keepends=True)[:3]))
    return SAMPLE


def _uploaded() -> str:
    """Return the name of the one file that the user uploads into the current folder."""
    try:
        from google.colab import files as browser
    except ImportError:
        raise SettingError(
            "there is no upload outside Colab",
            setting="upload",
            value=True,
            remedy="untick it, and write the path of the file into the other field",
        ) from None
    names = list(browser.upload())
    if len(names) != 1:
        remedy = "run the cell again, and choose one file"
        raise SettingError(f"gave {len(names)} files", setting="upload", value=True, remedy=remedy)
    print(f"Uploaded as {names[0]!r}. To run the cells again, untick upload, and write that name into the other field.")
    return str(names[0])


def own_recipe(
    path: str,
    kind: str = DEFAULT_KIND,
    prompt: str = "",
    answer: str = "",
    choices: str = "",
    held_out: Any = None,
    steps: Any = None,
    hours: Any = None,
) -> Recipe:
    """Return the recipe that the form describes, for the model that suits this machine; print what was read.

    `kind` is task.answer. `prompt` is a column, or a template such as "{ticket} (from {city})", and `answer` a column;
    empty fields are found by their names. `choices` are separated by commas. `held_out` is task.test_share; `steps` and
    `hours` are those of [budget]. Raises SettingError for rows that cannot be used, with their places.
    """
    from grpo_colab.evaluation.data_summary import describe_data
    from grpo_colab.utils.stack import import_unsloth

    # the tokenizer imports transformers, and this kernel trains later, for which unsloth must have been imported first
    import_unsloth()
    preset = preset_for_this_gpu()
    task: dict[str, Any] = {"name": "dataset", "path": path, "answer": kind}
    if prompt.strip():
        task["prompt" if "{" in prompt else "prompt_column"] = prompt.strip()
    if answer.strip():
        task["answer_column"] = answer.strip()
    if choices.strip():
        task["choices"] = [choice.strip() for choice in choices.split(",")]
    if held_out not in (None, ""):
        task["test_share"] = Text(held_out)
    if preset == DEFAULT_PRESET:
        task["max_prompt_tokens"] = SMALL_PROMPT_TOKENS
        if kind == DEFAULT_KIND:
            task["system_prompt"] = SMALL_PROMPT
    limits = {"max_steps": steps, "max_hours": hours}
    # texts, as on the command line, so that a bad value gets the same error
    budget = {name: Text(value) for name, value in limits.items() if value not in (None, "")}
    recipe = Recipe.load(preset, task=task, budget=budget)
    print(describe_data(recipe).text())
    print(f"\n{recipe.name}: {recipe.budget.max_steps} steps, with the model {recipe.model['model_name']}")
    return recipe


def look_for_holes(reward: Callable[..., Any], recipe: Recipe) -> None:
    """Print what a model could exploit in a reward for the recipe's answers, as `grpo-colab audit` does.

    What it tries is made of the recipe's own problems where their answers are a choice, a text or JSON.
    """
    from grpo_colab.evaluation.golds import examples_in_task
    from grpo_colab.rewards.audit import audit

    answers = recipe.task.get("answer", DEFAULT_KIND)
    print(audit(reward, AUDITED_AS.get(answers, answers), examples=examples_in_task(recipe)))
