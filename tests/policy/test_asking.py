"""A policy is asked one way, in training, evaluation and checks, whatever [grpo] says of prompts and answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marks import long_but
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.policy.asking import Asking, check_asking
from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.runs.run import Run as RunFolder
from grpo_colab.tasks import Problem
from grpo_colab.training.setup import GRPOSetup
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack

# As Qwen3's: without thinking, the prompt ends with an empty block.
THINKING = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% if enable_thinking is defined and not enable_thinking %}"
    "<reasoning>\n\n</reasoning>\n{% endif %}{% endif %}"
)
SHORT: dict[str, Any] = {
    "task": {"limit": 32},
    "budget": {"max_steps": 1, "prompts_per_step": 2, "rehearsal": False},
    "evaluation": {"n": 4, "max_completion_tokens": 16},
}


@pytest.fixture(scope="module")
def thinking_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a template that takes `enable_thinking`."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(TINY_MODEL, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": THINKING}))
    return folder


def trainer_of(policy: Any, recipe: Recipe, folder: Path, rows: list[dict[str, Any]]) -> Any:
    """The trainer of a run, as `train` builds it."""
    from grpo_colab.plan import plan_batch
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.signals import Signals
    from grpo_colab.training.tracking_callback import TrackerCallback
    from grpo_colab.training.trainer import build_trainer

    run = RunFolder.create(recipe, folder)
    setup = GRPOSetup(
        recipe=recipe,
        device=current_device(),
        task=recipe.load_task(),
        policy=policy,
        held_out=[],
        evaluation_batch=4,
        rows=rows,
        problems=[Problem("?", "7")] * len(rows),
        batch_plan=plan_batch(recipe, 1),
    )
    manager = CheckpointManager(run, recipe, Signals(), deadline=float("inf"), mirror=None)
    return build_trainer(setup, run, manager, TrackerCallback(run, recipe))


def policy_of(recipe: Recipe) -> Any:
    from grpo_colab.policy.loading import load_policy

    return load_policy(recipe, current_device())


MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(("user", "assistant")), "content": st.text("abc 123<>\n", min_size=1, max_size=12)},
    optional={"tool_calls": st.none(), "name": st.sampled_from(("a", "b"))},
)


@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False}, {"enable_thinking": True}])
def test_training_evaluation_and_lengths_render_every_conversation_alike(
    kwargs: dict[str, Any], thinking_model: Path, tmp_path: Path
) -> None:
    recipe = Recipe.load(**SHORT, model={"model_name": str(thinking_model)}, grpo={"chat_template_kwargs": kwargs})
    policy = policy_of(recipe)
    trainer = trainer_of(policy, recipe, tmp_path / "run", [{"prompt": [], "answer": "1"}])

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(MESSAGE, min_size=1, max_size=4))
    def same(prompt: list[dict[str, Any]]) -> None:
        ids, images, fields = trainer._tokenize_prompts([prompt])
        # TRL's own way, by its own arguments
        theirs = trainer.processing_class.apply_chat_template(
            [prompt], add_generation_prompt=True, tokenize=True, return_dict=True, **trainer.chat_template_kwargs
        )
        assert ids == theirs["input_ids"] == [policy.prompt_ids(prompt)]
        assert (images, fields) == (None, {})
        assert policy.prompt_text(prompt).endswith("</reasoning>\n") == (kwargs.get("enable_thinking") is False)

    same()


def test_a_template_s_setting_reaches_the_evaluation(thinking_model: Path, tmp_path: Path) -> None:
    """A policy that always gets its reasoning block closed answers without one, before, during and after."""
    model = {"model_name": str(thinking_model)}
    run = train(
        Recipe.load(**SHORT, model=model, grpo={"chat_template_kwargs": {"enable_thinking": False}}), out=tmp_path / "a"
    )
    policy = policy_of(run.recipe)
    problem, *_ = run.recipe.load_task().problems("test", 1)
    messages = run.recipe.load_task().messages(problem)
    assert policy.prompt_text(messages).endswith("</reasoning>\n")
    plain = policy_of(Recipe.load(**SHORT, model=model))
    assert not plain.prompt_text(messages).endswith("</reasoning>\n")
    [asked] = policy.generate([messages], 16)
    before, *_ = run.answers("evaluation-before.jsonl")
    assert before["question"] == problem.question
    assert before["completion"] == asked


@pytest.mark.parametrize(
    "key", long_but(["suppress_tokens"], ["suppress_tokens", "min_new_tokens", "repetition_penalty"])
)
def test_what_decides_an_answer_reaches_training_and_evaluation(key: str, tmp_path: Path) -> None:
    plain = policy_of(Recipe.load(**SHORT))
    tag, *_ = plain.tokenizer("<reasoning>", add_special_tokens=False)["input_ids"]
    value: Any = {"suppress_tokens": [tag], "min_new_tokens": 40, "repetition_penalty": 5.0}[key]
    grpo = {key: value} if key == "repetition_penalty" else {"generation_kwargs": {key: value}}
    longer = {**SHORT, "evaluation": {"n": 4, "max_completion_tokens": 40}}
    run = train(Recipe.load(**longer, grpo={**grpo, "max_completion_length": 40}), out=tmp_path / "run")
    task = run.recipe.load_task()
    usual = plain.generate([task.messages(problem) for problem in task.problems("test", 4)], 40)
    evaluated = [row["completion"] for row in run.answers("evaluation-before.jsonl")]
    trained = [row["completion"] for row in run.completions()]
    assert evaluated != usual
    if key == "suppress_tokens":
        assert any("<reasoning>" in text for text in usual)
        assert not any("<reasoning>" in text for text in evaluated + trained)
    if key == "min_new_tokens":
        sizes = [len(plain.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in evaluated + trained]
        assert min(sizes) > max(len(plain.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in usual)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "stop_strings": ({"stop_strings": ["x"]}, "is decided elsewhere", "generate() needs the tokenizer"),
    "max_new_tokens": ({"max_new_tokens": 5}, "is decided elsewhere", "write grpo.max_completion_length"),
    "temperature": ({"temperature": 0.5}, "is decided elsewhere", "write grpo.temperature"),
    "do_sample": ({"do_sample": False}, "is decided elsewhere", "sampled"),
    "num_return_sequences": ({"num_return_sequences": 2}, "is decided elsewhere", "write grpo.num_generations"),
    "eos_token_id": ({"eos_token_id": 1}, "is decided elsewhere", "the tokenizer's own"),
    "disable_compile": ({"disable_compile": True}, "is decided elsewhere", "TRL does not compile"),
    "token_healing": ({"token_healing": True}, "is decided elsewhere", "needs the tokenizer"),
    "supress_tokens": ({"supress_tokens": [1]}, "no such argument", "did you mean 'suppress_tokens'"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_decide_an_answer_is_refused(key: str) -> None:
    given, problem, remedy = REFUSED[key]
    with refused(f"grpo.generation_kwargs.{key}", given[key], problem=problem, remedy=remedy):
        check_asking(Recipe.load(grpo={"generation_kwargs": given}), current_device())


BOUNDS = {
    "repetition_penalty": 0.0,
    "top_p": 1.5,
    "min_p": 2.0,
    "top_k": -1,
    "cache_implementation": "nonsense",
}


@pytest.mark.parametrize("key", BOUNDS)
def test_what_generate_would_refuse_is_refused_before_anything_is_loaded(key: str) -> None:
    with refused(f"grpo.{key}", BOUNDS[key], problem="transformers refuses it", snapshot=False):
        check_asking(Recipe.load(grpo={key: BOUNDS[key]}), current_device())


@pytest.mark.parametrize("given", [{"typical_p": 0.9}, {"epsilon_cutoff": 0.1}, {"bad_words_ids": [[5]]}], ids=str)
def test_what_works_in_sampling_alone_is_taken_though_an_evaluation_is_greedy(given: dict[str, Any]) -> None:
    check_asking(Recipe.load(grpo={"generation_kwargs": given}), current_device())
    # without vLLM here, whatever the recipe wishes
    check_asking(Recipe.load(model={"fast_inference": True}, grpo={"generation_kwargs": given}), current_device())
    with refused("grpo.generation_kwargs.max_tokens", 5, problem="no such argument", snapshot=False):
        check_asking(
            Recipe.load(model={"fast_inference": True}, grpo={"generation_kwargs": {"max_tokens": 5}}), current_device()
        )


@pytest.mark.parametrize("key", ["tokenize", "add_generation_prompt", "tools", "conversation", "truncation"])
def test_an_argument_of_the_rendering_is_no_variable_of_the_template(key: str) -> None:
    with refused(f"grpo.chat_template_kwargs.{key}", False, problem="argument of the rendering", remedy="variables"):
        check_asking(Recipe.load(grpo={"chat_template_kwargs": {key: False}}), current_device())


def test_what_no_evaluation_could_follow_and_what_is_no_table() -> None:
    with refused("grpo.vllm_structured_outputs_regex", "a+", remedy="take it out"):
        check_asking(Recipe.load(grpo={"vllm_structured_outputs_regex": "a+"}), current_device())
    with refused("grpo.chat_template_kwargs", "[1]", problem="is no table", remedy="{ name = value }"):
        check_asking(Recipe.load(grpo={"chat_template_kwargs": "[1]"}), current_device())
    text = Recipe.load(grpo={"chat_template_kwargs": '{"enable_thinking": false}'})
    check_asking(text, current_device())
    assert Asking.of(text).template == {"enable_thinking": False}


def test_a_policy_that_is_brought_is_asked_as_the_recipe_says(thinking_model: Path, tmp_path: Path) -> None:
    model = {"model_name": str(thinking_model)}
    loaded = policy_of(Recipe.load(**SHORT, model=model))
    recipe = Recipe.load(**SHORT, model=model, grpo={"chat_template_kwargs": {"enable_thinking": False}})
    run = train(recipe, out=tmp_path / "run", loaded=loaded)
    asked = policy_of(recipe)
    problems = recipe.load_task().problems("test", 4)
    usual = asked.generate([recipe.load_task().messages(problem) for problem in problems], 16)
    assert [row["completion"] for row in Run(run.path).answers("evaluation-before.jsonl")] == usual
