"""Write the card of a trained adapter: its README.md, which the hub shows.

PEFT writes a form to fill in, which names the base model's folder on this machine. This card says what was trained,
how, with which result, and how to load it. It names no path.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.rewards.graders import lenient_words
from grpo_colab.rewards.names import parse_reward
from grpo_colab.tasks.gsm8k import HUB_NAME
from grpo_colab.tasks.names import parse_task
from grpo_colab.text import on_one_line
from grpo_colab.utils import files, hub

CARD: Final = """---
{{ card_data }}
---

# {{ name }}

A LoRA adapter for {{ base }}, trained by {{ method }} with `grpo_colab`.
{% if description %}
The recipe: {{ description }}.
{% endif %}

## Result
{% if sides %}
{{ asked }}:

| | accuracy | 95 % interval | {{ lenient_words }} |
|---|---|---|---|
{% for side in sides -%}
| {{ side.name }} | {{ side.accuracy }} | {{ side.interval }} | {{ side.lenient }} |
{% endfor %}
{{ paired }}
{% for line in remarks %}
{{ line }}
{% endfor %}
{% else %}
Not evaluated.
{% endif %}
## How it was trained

Data: {{ data }}.

| reward | weight |
|---|---|
{% for reward, weight in rewards -%}
| {{ reward }} | {{ weight }} |
{% endfor %}
| setting | value |
|---|---|
{% for setting, value in settings -%}
| {{ setting }} | {{ value }} |
{% endfor %}
Made with {{ versions }}.
{% if system_prompt %}
It was asked with this system prompt, and answers in its format:

{{ system_prompt }}
{% endif %}
## How to load it

With PEFT, where `adapter` is this folder or its name on the hub:

```python
{% if own_model -%}
from grpo_colab.recipe.recipe import OWN_MODELS
{% endif -%}
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({{ loaded_from }}), "adapter")
tokenizer = AutoTokenizer.from_pretrained("adapter")
model.generation_config.eos_token_id = tokenizer.eos_token_id  # what ended an answer in training
```

With grpo_colab, in the run folder, where recipe.toml is:

```python
from pathlib import Path

from grpo_colab import Recipe
from grpo_colab.policy.loading import load_policy
from grpo_colab.utils.device import current_device

recipe = Recipe.load("recipe.toml")
policy, task = load_policy(recipe, current_device(), Path("adapter")), recipe.load_task()
problem = task.problems("test", 1)[0]
print(policy.generate([task.messages(problem)], max_new_tokens=recipe.max_completion_tokens)[0])
```

## Licence

{{ licence }}
"""
# Settings that say what a run was, in the order of the card.
SETTINGS: Final = (
    *("budget.max_steps", "budget.prompts_per_step", "grpo.num_generations", "grpo.max_completion_length"),
    *("grpo.learning_rate", "grpo.lr_scheduler_type", "grpo.loss_type", "grpo.beta", "grpo.temperature"),
    *("lora.r", "lora.lora_alpha", "model.load_in_4bit", "grpo.seed"),
)
LIBRARIES: Final = ("unsloth", "trl", "transformers", "peft", "torch")


def write_card(folder: Path, recipe: Recipe, evaluation: Mapping[str, Any] | None = None) -> None:
    """Write the adapter's card to README.md in its folder, whole or not at all; an older card is replaced.

    `evaluation` is the content of evaluation.json, None before there is one. Raises OSError where it cannot be written.
    """
    files.write_text(folder / "README.md", model_card(recipe, evaluation))


def model_card(recipe: Recipe, evaluation: Mapping[str, Any] | None = None) -> str:
    """Return the card of an adapter that `recipe` trained, as Markdown under the hub's metadata.

    It has the result where there is an `evaluation`, which is the content of evaluation.json. Of a path, only the last
    part is named. Imports huggingface_hub.
    """
    from huggingface_hub import ModelCard, ModelCardData

    task, system_prompt = recipe.task["name"], ""
    with contextlib.suppress(SettingError):  # the data may be gone by now, and the adapter must be saved
        system_prompt = recipe.load_task().system_prompt or ""
    on_hub = not recipe.brings_model and not hub.is_local(recipe.model_path)
    data = ModelCardData(
        base_model=recipe.model_path if on_hub else None,
        model_name=recipe.name,
        datasets=[HUB_NAME] if task == "gsm8k" else None,
        library_name="peft",
        license="apache-2.0" if recipe.brings_model else None,
        pipeline_tag="text-generation",
        tags=["grpo", "grpo_colab", "lora", "trl", "unsloth"],
        eval_results=_results(recipe, evaluation),
    )
    card = ModelCard.from_template(
        data,
        template_str=CARD,
        name=_plain(recipe.name),
        description=_plain(recipe.description),
        method="hindsight" if recipe.hindsight and recipe.hindsight.method != "grpo" else "GRPO",
        **_model(recipe, on_hub),
        data=_data(recipe),
        rewards=[(_code(_without_folder(name)), f"{weight:g}") for name, weight in recipe.rewards.items()],
        settings=list(_settings(recipe)),
        versions=", ".join(_versions()),
        system_prompt="\n".join(f"    {on_one_line(line)}" for line in system_prompt.splitlines()),
        lenient_words=lenient_words(recipe.task),
        **_result(evaluation),
    )
    return str(card).rstrip() + "\n"


def _model(recipe: Recipe, on_hub: bool) -> dict[str, Any]:
    """Return what the card says about the base model: its name, how it is loaded, and its licence."""
    name = recipe.model["model_name"]
    licence = (
        "The base model's licence holds for what is derived from it. This card states none: add `license: ...` to its "
        "head before you publish it."
    )
    if recipe.brings_model:
        base = f"`{name}`, the small model that comes with `grpo_colab`"
        loaded_from, licence = f'OWN_MODELS["{name}"]', "Apache-2.0, as the small model and its problems."
    elif on_hub:
        base, loaded_from = f"[{_plain(name)}](https://huggingface.co/{_plain(name)})", repr(str(name))
    else:
        folder = Path(recipe.model_path).name
        base, loaded_from = f"{_code(folder)}, a model that was in a folder", repr(f"path/to/{folder}")
    return {"base": base, "loaded_from": loaded_from, "own_model": recipe.brings_model, "licence": licence}


def _data(recipe: Recipe) -> str:
    """Return what the run was trained on: the task, and the name of its file or data set."""
    name = recipe.task["name"]
    path = recipe.task.get("path")
    source = f", {_code(Path(str(path)).name)}" if path else ""
    if name == "gsm8k" and not path:
        source = f", [{HUB_NAME}](https://huggingface.co/datasets/{HUB_NAME})"
    return f"the task {_code(parse_task(name).label)}{source}"


def _settings(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the settings of SETTINGS that the recipe has, each with its value as a text."""
    found = []
    for setting in SETTINGS:
        table, key = setting.split(".")
        values = getattr(recipe, table)
        value = values.get(key) if isinstance(values, dict) else getattr(values, key)
        if value is not None:
            found.append((f"`{setting}`", _code(str(value).lower() if isinstance(value, bool) else value)))
    return found


def _versions() -> list[str]:
    """Return the libraries of LIBRARIES that are installed, each with its version."""
    found = []
    for library in LIBRARIES:
        try:
            found.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _result(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the card's table of the accuracy before and after, and its sentences; without an evaluation, nothing."""
    if evaluation is None:
        return {"sides": []}
    sides = []
    for name in ("before", "after"):
        side = evaluation[name]
        low, high = side["ci95"]
        sides.append(
            {
                "name": name,
                "accuracy": f"{side['accuracy']:.1%}",
                "interval": f"{low:.1%} to {high:.1%}",
                "lenient": "" if side["lenient_accuracy"] is None else f"{side['lenient_accuracy']:.1%}",
            }
        )
    remarks = [_plain(evaluation["note"])] if evaluation.get("note") else []
    for split, found in evaluation.get("further", {}).items():
        before, after = (_right(found[side]) for side in ("before", "after"))
        remarks.append(
            f"Of {found['n']:,} held-out problems of {_code(split)}, {_plain(found['about'])}: {before} before, "
            f"{after} after."
        )
    paired = evaluation["paired"]
    problems = "problem" if evaluation["n"] == 1 else "problems"
    return {
        "sides": sides,
        "asked": f"{evaluation['n']:,} held-out {problems} of {_code(evaluation['task'])}, split "
        f"{_code(evaluation['split'])}, answered greedily, with the adapter after step {evaluation['step']}",
        "paired": f"Gained {paired['gained']}, lost {paired['lost']}; exact McNemar p = {paired['p_value']:.2g}.",
        "remarks": remarks,
    }


def _right(side: Mapping[str, Any]) -> str:
    """Return one side's accuracy with its interval."""
    low, high = side["ci95"]
    return f"{side['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def _results(recipe: Recipe, evaluation: Mapping[str, Any] | None) -> list[Any] | None:
    """Return the accuracy after training as the hub's metadata has it; None without one, and for a single problem."""
    from huggingface_hub import EvalResult

    if evaluation is None or evaluation["n"] == 1:
        return None
    task = recipe.task["name"]
    on_hub = task == "gsm8k" and not recipe.task.get("path")
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=HUB_NAME if on_hub else task,
            dataset_name=task,
            dataset_split=evaluation["split"],
            metric_type="accuracy",
            metric_value=round(evaluation["after"]["accuracy"], 4),
        )
    ]


def _without_folder(reward: str) -> str:
    """Return a reward's name with its file alone, without the folders above it."""
    parsed = parse_reward(reward)
    return reward.replace(parsed.origin, Path(parsed.origin).name, 1) if parsed.in_file else reward


def _plain(text: object) -> str:
    """Return a text on one line that is no HTML and ends no cell of a table."""
    return on_one_line(text).replace("<", "&lt;").replace("|", "\\|")


def _code(text: object) -> str:
    """Return a text as code, on one line, that ends no cell of a table."""
    return f"`{on_one_line(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
