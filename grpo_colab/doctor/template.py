"""Check whether the recipe's model can be asked at all: its chat template and its end token.

The check is a process of its own, since it needs transformers, which must not be imported before unsloth here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from grpo_colab.doctor import limits
from grpo_colab.doctor.findings import Answer, Probe, broken, ok, run, warning
from grpo_colab.doctor.network import is_cached

# Gets the recipe as TOML, and prints what is wrong and what to do about it, or null where no tokenizer can be loaded.
ASK: Final = """
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
from grpo_colab.errors import SettingError
from grpo_colab.policy.templates import check_prompts, load_tokenizer, with_chat_template
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks import Problem, load_task
from grpo_colab.tasks.names import parse_task
from grpo_colab.utils.toml_reading import parse_toml

recipe = Recipe.model_validate(parse_toml(sys.argv[1]))
tokenizer, found = with_chat_template(recipe, load_tokenizer(recipe)), None
if tokenizer is not None:
    found = ["", ""]
    try:
        problems = [Problem("What is 1 + 1?", "2")]
        if parse_task(recipe.task["name"]).runs_code:  # nothing of others is run: a prompt of the usual form stands in
            task = load_task("gsm8k", system_prompt=recipe.task.get("system_prompt"))
        else:
            task = recipe.load_task()
            if recipe.task["name"] != "gsm8k" or recipe.task.get("path"):  # the others are here
                problems = task.problems("train", 200)
        check_prompts(recipe, task, problems, tokenizer)
    except SettingError as error:
        remedy = error.remedy or ""
        found = [str(error).removesuffix(f"; {remedy}"), remedy]
print(json.dumps(found))
"""


def check_template(probe: Probe) -> Answer:
    """Look whether the tokenizer of the recipe's model has a chat template that takes the task's prompts, and an end.

    Nothing is downloaded, and no code of the model's is run: where that would be needed, the answer is not known.
    """
    if probe.recipe is None:
        return ok("no recipe to look at")
    if probe.hub_name and not is_cached(probe.hub_name):
        return ok("not known before the model is here")
    try:
        printed = run(limits.TEMPLATE_S, sys.executable, "-P", "-c", ASK, probe.recipe.to_toml())
    except subprocess.TimeoutExpired:
        return warning(f"not known: reading the tokenizer takes more than {limits.TEMPLATE_S:.0f} s", "try it again")
    except (OSError, subprocess.SubprocessError):
        return ok("not known: transformers cannot read the tokenizer here")
    found = json.loads(printed.strip().splitlines()[-1])
    if found is None:
        return ok("not known: the tokenizer is not here, or needs code of the model's own")
    problem, advice = found
    return broken(problem, advice) if problem else ok("the chat template takes the task's prompts, and answers end")
