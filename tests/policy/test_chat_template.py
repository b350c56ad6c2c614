"""A chat template of the recipe's own takes the place of the model's: in training, evaluation and questions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.doctor import limits
from grpo_colab.doctor.findings import Probe
from grpo_colab.doctor.template import check_template
from grpo_colab.evaluation.evaluate import evaluate_run
from grpo_colab.evaluation.samples import answer_without_and_with_adapter
from grpo_colab.policy.loading import load_policy, model_arguments
from grpo_colab.policy.templates import check_prompts, load_tokenizer, with_chat_template
from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.runs.mirror import push
from grpo_colab.runs.records import repeatable
from grpo_colab.tasks import Problem
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack

OWN = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
SHORT: dict[str, Any] = {
    "task": {"limit": 32},
    "budget": {"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
    "grpo": {"num_generations": 4, "max_completion_length": 16, "save_steps": 1},
    "evaluation": {"n": 8},
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a chat template."""
    folder = tmp_path_factory.mktemp("models") / "bare"
    shutil.copytree(TINY_MODEL, folder)
    (folder / "chat_template.jinja").unlink()
    return folder


def with_file(folder: Path, text: str, **overrides: Any) -> Recipe:
    (folder / "own.jinja").write_text(text)
    model = {"chat_template": str(folder / "own.jinja"), **overrides.pop("model", {})}
    return Recipe.load(**{**SHORT, **overrides}, model=model)


def check(recipe: Recipe) -> None:
    task = recipe.load_task()
    check_prompts(recipe, task, task.problems("train", 2), with_chat_template(recipe, load_tokenizer(recipe)))


def test_the_loader_is_not_given_it(tmp_path: Path) -> None:
    assert "chat_template" not in model_arguments(with_file(tmp_path, OWN), current_device())


def test_a_model_without_one_gets_it_and_is_refused_without_it(bare: Path, tmp_path: Path) -> None:
    model = {"model_name": str(bare)}
    with refused("model.model_name", str(bare), problem="has no chat template", remedy="model.chat_template = "):
        check(Recipe.load(model=model))
    check(with_file(tmp_path, OWN, model=model))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{% for message in messages %}{{ message.content }}\n\n{% endif %}", "line 3: TemplateSyntaxError"),
        ("{{ raise_exception('never') }}", "writes no prompt (TemplateError: never)"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "leaves out message 1, of the role 'user'"),
        ("{{ messages[-1].content.no.such }}", "UndefinedError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        (
            "{{ messages[-1].content }}{% if not add_generation_prompt %}{{ raise_exception('no') }}{% endif %}",
            "writes no prompt without add_generation_prompt (TemplateError: no)",
        ),
    ],
    ids=["syntax", "raises", "empty", "undefined", "sandbox", "without-generation-prompt"],
)
def test_one_that_writes_no_prompt_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    with refused("model.chat_template", text, problem=problem, remedy="mend its file"):
        check(with_file(tmp_path, text))


def test_one_without_a_system_message_may_do(tmp_path: Path) -> None:
    only_user = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + OWN
    with refused("task.system_prompt", problem="takes no system message", remedy='task.system_prompt = ""'):
        check(with_file(tmp_path, only_user))
    check(with_file(tmp_path, only_user, task={"system_prompt": ""}))
    needs_system = "{% if messages[0].role != 'system' %}{{ raise_exception('a system message') }}{% endif %}" + OWN
    check(with_file(tmp_path, needs_system))


def test_trls_tag_for_what_the_assistant_says_is_known(tmp_path: Path) -> None:
    check(with_file(tmp_path, OWN + "{% generation %}{% endgeneration %}"))


def test_doctor_looks_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TEMPLATE_S", 600.0)  # on a machine that has much else to do
    state, found, advice = check_template(Probe(with_file(tmp_path, "{{ messages.x.y }}"), [], "", None, False))
    assert state == "broken"
    assert found.startswith("model.chat_template = ")
    assert "mend its file" in advice


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose template's file is gone when it has been read."""
    folder = tmp_path_factory.mktemp("own")
    recipe = with_file(folder, OWN)
    (folder / "own.jinja").unlink()
    return train(recipe, out=folder / "run")


def test_it_is_as_if_the_model_had_come_with_it(own: Run, bare: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(bare, model)
    (model / "chat_template.jinja").write_text(OWN)
    theirs = train(Recipe.load(**SHORT, model={"model_name": str(model), "dtype": "float32"}), out=tmp_path / "theirs")
    assert repeatable(own.metrics()) == repeatable(theirs.metrics())
    assert own.completions() == theirs.completions()
    assert own.evaluation == theirs.evaluation


def test_it_is_saved_with_the_adapter_and_with_each_checkpoint(own: Run) -> None:
    folders = [own.adapter, *own.checkpoints.glob("checkpoint-*")]
    assert len(folders) >= 3
    for folder in folders:
        assert (folder / "chat_template.jinja").read_text() == OWN


def test_a_run_is_evaluated_and_asked_by_it(own: Run) -> None:
    assert evaluate_run(own.path) == own.evaluation
    question = "Tim has 3 apples. He gets 4 more apples. How many apples does he have now?"
    _, after = answer_without_and_with_adapter(own.recipe, own.adapter, question)
    policy = load_policy(own.recipe, current_device(), own.adapter)
    messages = own.recipe.load_task().messages(Problem(question, ""))
    written = policy.prompt_text(messages)
    assert written.startswith("[system] ")
    assert written.endswith(f"[user] {question}{policy.tokenizer.eos_token}\n[assistant] ")
    assert policy.generate([messages], own.recipe.max_completion_tokens) == [after]


def test_a_run_is_gone_on_with_here_and_from_a_mirror(own: Run, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(own.path, cut)
    shutil.rmtree(cut / "checkpoints" / "checkpoint-2")
    (cut / "evaluation.json").unlink()
    push(cut, str(tmp_path / "mirror"))
    with refused("--resume", problem="a run keeps the [model] that it began with"):
        train(Recipe.load(**SHORT), resume=cut)
    resumed = train(resume=cut)
    restored = train(resume=f"{tmp_path}/mirror/cut", out=tmp_path / "restored")
    for run in (resumed, restored):
        assert repeatable(run.metrics()) == repeatable(own.metrics())
        assert run.evaluation == own.evaluation


def test_a_policy_that_is_brought_along_gets_it(own: Run, tmp_path: Path) -> None:
    policy = load_policy(Recipe.load(**SHORT), current_device())
    assert policy.tokenizer.chat_template != OWN
    run = train(own.recipe, out=tmp_path / "run", loaded=policy)
    assert repeatable(run.metrics()) == repeatable(own.metrics())
    assert run.evaluation == own.evaluation
