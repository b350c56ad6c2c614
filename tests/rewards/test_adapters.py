"""The rewards in other trainers, called by the trainers' own code: a Rubric, a v1 task, verl's and OpenRLHF's loops.

Each runs in a process of its own, which is this file with the name of a function: verifiers needs what would not fit
beside the CPU default, and two of its releases are tried. Of verl and OpenRLHF the modules that load a reward, call it
and take up what it gives are run as released; what they import and do not use here (ray, vllm, tensordict, omegaconf)
is an empty stand-in, and a list of token ids takes the place of a generating engine.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import pickle
import subprocess
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.rewards import (
    RewardError,
    combine,
    correctness_reward,
    get_soft_overlong_punishment_reward,
    get_strict_format_reward,
    strict_format_reward,
)
from grpo_colab.rewards.adapters import compute_score, reward_func, verifiers_reward

FOLDERS = {name: Path(sys.prefix) / name for name in ("verifiers", "neighbours")}
GOOD = "<reasoning>\nbecause\n</reasoning>\n<answer>\n18\n</answer>"
RIGHT, WRONG, NEITHER = "<answer>18</answer>", GOOD.replace("18", "19"), "18"
TEXTS = [GOOD, RIGHT, WRONG, NEITHER]
WEIGHTS = {"correctness": 1.0, "strict_format": 0.25}
TOTALS = [1.25, 1.0, 0.25, 0.0]
PARTS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]


async def bonus_reward(
    prompts: list[Any], completions: list[Any], bonus: list[float], **kwargs: Any
) -> list[float | None]:
    """What a user may have: async, with a column of its own, and with nothing to say about a bonus of 0."""
    assert isinstance(completions[0], str) or [message["role"] for message in completions[0]] == ["assistant"]
    await asyncio.sleep(0)
    return [value or None for value in bonus]


strictly = verifiers_reward(strict_format_reward)  # plugged into a v1 task by this file's path and its name


def rubric() -> dict[str, Any]:
    """A group of completions and one alone, scored by a real Rubric."""
    import verifiers as vf
    from verifiers.types import AssistantMessage, UserMessage

    functions = [verifiers_reward(f) for f in (correctness_reward, strict_format_reward, bonus_reward)]
    scorer = vf.Rubric(funcs=functions, weights=[1.0, 0.25, 10.0])

    def state(text: str, answer: str | None = "18", bonus: float = 0.5) -> Any:
        prompt, said = [UserMessage(content="How many?")], [AssistantMessage(content=text)]
        row = {"prompt": prompt, "answer": answer, "bonus": bonus, "example_id": 0}
        return vf.State(input=row, prompt=prompt, completion=said, answer=answer, trajectory=[])

    group = [*map(state, TEXTS), state(GOOD, None), state(GOOD, "18 or 19"), state(GOOD, bonus=0.0)]
    asyncio.run(scorer.score_group(group))
    alone = state(GOOD)
    alone["completion"], alone["prompt"] = GOOD, "How many?"  # what a completion model says is plain text
    asyncio.run(scorer.score_rollout(alone))
    return {"version": vf.__version__, "scores": [[s["reward"], s["metrics"]] for s in [*group, alone]]}


def task() -> dict[str, Any]:
    """Traces scored by a real v1 task: one reward is its own, one is plugged in by its configuration."""
    import verifiers
    import verifiers.v1 as vf

    class ProblemData(vf.TaskData):
        answer: str | None
        bonus: float = 0.5

    class Problem(vf.Task[ProblemData]):
        correct = vf.reward(verifiers_reward(correctness_reward), weight=1.0)
        bonus = vf.reward(verifiers_reward(bonus_reward), weight=10.0)

    config = vf.TaskConfig(rewards={"strict_format": {"fn": f"{__file__}:strictly", "weight": 0.25}})

    def scored(text: str, answer: str | None = "18", bonus: float = 0.5) -> Any:
        problem = Problem(ProblemData(prompt="How many?", answer=answer, bonus=bonus), config)
        said = vf.MessageNode(message=vf.AssistantMessage(content=text), sampled=True)
        trace = vf.Trace(
            task=vf.TraceTask(type="Problem", data=problem.data),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            nodes=[said],
        )
        try:
            asyncio.run(problem.score(trace))
        except vf.TaskError as error:
            return str(error)
        return [trace.reward, {name: reward.score for name, reward in trace.rewards.items()}]

    scores = [*map(scored, TEXTS), scored(GOOD, None), scored(GOOD, "18 or 19"), scored(GOOD, bonus=0.0)]
    return {"version": verifiers.__version__, "scores": scores}


def _skeleton(package: str, *inner: str, absent: tuple[str, ...]) -> None:
    """The package without what its `__init__` files import, and stand-ins for what is absent."""
    for name in (package, *(f"{package}.{part}" for part in inner)):
        module = types.ModuleType(name)
        module.__path__ = [str(FOLDERS["neighbours"] / name.replace(".", "/"))]
        sys.modules[name] = module
    sys.modules.update({name: MagicMock() for name in absent})


def verl() -> dict[str, Any]:
    """verl's loader, its naive reward manager, and what it makes of the results of a validation."""
    absent = ("ray", "omegaconf", "tensordict", "tensordict.tensorclass", "verl.utils.reward_score")
    _skeleton("verl", "utils", "trainer", "trainer.ppo", "experimental", "experimental.reward_loop", absent=absent)
    sys.modules["verl"].DataProto = object  # type: ignore[attr-defined]
    import numpy as np
    import torch
    from transformers import AutoTokenizer
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
    from verl.trainer.ppo.metric_utils import process_validation_metrics
    from verl.trainer.ppo.reward import get_custom_reward_fn

    tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    class Rows(list[Any]):
        """As much of a DataProto as the manager reads: a slice of it is one, its items have a batch."""

        def __getitem__(self, index: Any) -> Any:
            return Rows(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def results(golds: list[str | None], **settings: Any) -> list[dict[str, Any]]:
        path = {"path": "pkg://grpo_colab.rewards.adapters", "name": "compute_score"}
        config = types.SimpleNamespace(reward={"custom_reward_function": path | settings})
        manager = NaiveRewardManager(config, tokenizer, get_custom_reward_fn(config))
        given = []
        for text, gold in zip(TEXTS, golds, strict=True):
            ids = torch.tensor(tokenizer(text + "<|eot_id|>", add_special_tokens=False)["input_ids"])
            batch = {"responses": ids, "attention_mask": torch.ones(3 + len(ids), dtype=torch.int64)}
            row = {"data_source": "eggs", "reward_model": {"ground_truth": gold}, "extra_info": {"answer": "none"}}
            item = types.SimpleNamespace(batch=batch, non_tensor_batch=row)
            given.append(loop.run_until_complete(manager.run_single(Rows([item]))))
        return given

    both = results(["18", "18", "18", None], reward_kwargs={"rewards": WEIGHTS})
    infos = [result["reward_extra_info"] for result in both]
    table = {key: np.array([info[key] for info in infos]).tolist() for key in infos[0]}  # as RewardLoopWorker does
    means = process_validation_metrics(
        ["eggs"] * 4, ["one"] * 4, {"reward": [r["reward_score"] for r in both], **table}
    )
    return {"default": results(["18"] * 4), "both": both, "means": means["eggs"]}


def openrlhf() -> dict[str, Any]:
    """OpenRLHF's executor loads a user's file, calls it, and makes an experience of what it gives."""
    absent = ("ray", "vllm", "openrlhf.trainer.ray.vllm_engine", "openrlhf.utils.utils")
    _skeleton("openrlhf", "utils", "trainer", "trainer.ray", "trainer.ppo_utils", absent=absent)
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
    from openrlhf.utils.agent import SingleTurnAgentExecutor
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL)
    chat = [{"role": "system", "content": "<answer>n</answer>"}, {"role": "user", "content": "How many? " * 9}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    executor = SingleTurnAgentExecutor(sys.argv[2])

    def experience(text: str, label: str | None, max_length: int = 512) -> dict[str, Any]:
        ids = tokenizer(text + "<|eot_id|>", add_special_tokens=False)["input_ids"]
        output = types.SimpleNamespace(token_ids=ids, text=text, finish_reason="stop", logprobs=None)

        class Engine:
            async def generate(self, *arguments: Any, **kwargs: Any) -> Any:
                return types.SimpleNamespace(outputs=[output])

        sampling = types.SimpleNamespace(max_tokens=256, logprobs=None)
        response = asyncio.run(executor.execute(prompt, label, sampling, max_length, tokenizer, Engine()))
        made = SamplesGenerator._process_response_into_experience(None, response, max_len=512)
        shown = {key: value.tolist() for key, value in made.info.items() if key != "response_clip_ratio"}
        return shown if made.rewards is None else shown | {"rewards": made.rewards.tolist()}

    return {
        "whole": [experience(text, "18") for text in TEXTS],
        "cut": experience(GOOD, "18", max_length=256 + 40),  # 40 tokens are left of the prompt
        "no gold": experience(GOOD, None),
        "broken gold": experience(GOOD, "18 or 19"),
    }


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., Any]:
    """What one of the functions above gives in a process that sees the folders, and what it says on stderr."""

    def run(function: str, *arguments: str, folders: tuple[str, ...]) -> tuple[dict[str, Any], str]:
        paths = [FOLDERS[name] for name in folders]
        if absent := [path for path in paths if not path.is_dir()]:
            pytest.skip(f"{absent[0].name} is not in the virtual environment: make setup-test")
        done = subprocess.run(
            [sys.executable, __file__, function, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr

    return run


def _metrics(parts: tuple[float, float], bonus: float = 0.5) -> dict[str, float]:
    return {"correctness_reward": parts[0], "strict_format_reward": parts[1], "bonus_reward": bonus}


def test_a_rubric_of_verifiers(reported) -> None:
    given, said = reported("rubric", folders=("neighbours", "verifiers"))
    assert given["version"] == "0.2.1"
    *group, no_gold, broken, no_bonus, alone = given["scores"]
    assert group == [[total + 5.0, _metrics(parts)] for total, parts in zip(TOTALS, PARTS, strict=True)]
    assert no_gold == broken == [5.25, _metrics((0.0, 1.0))]
    assert no_bonus == [1.25, _metrics((1.0, 1.0), 0.0)]
    assert alone == [6.25, _metrics((1.0, 1.0))]
    assert "correctness_reward cannot judge this completion" in said
    assert "the gold answer is not one number (many_numbers): '18 or 19'" in said


@pytest.mark.long
def test_a_task_of_verifiers_v1(reported) -> None:
    given, _ = reported("task", folders=("verifiers",))
    assert given["version"] == "0.4.0"
    *group, no_gold, broken, no_bonus = given["scores"]
    names = ("correctness_reward", "strict_format", "bonus_reward")
    expected = [
        [total + 5.0, dict(zip(names, (*parts, 0.5), strict=True))] for total, parts in zip(TOTALS, PARTS, strict=True)
    ]
    assert group == expected
    assert no_gold == broken == [5.25, {"strict_format": 1.0, "bonus_reward": 0.5}]
    assert no_bonus == [1.25, {"correctness_reward": 1.0, "strict_format": 1.0}]


@pytest.mark.long
def test_verls_loader_manager_and_validation(reported) -> None:
    given, _ = reported("verl", folders=("neighbours",))
    assert [result["reward_score"] for result in given["default"]] == [1.0, 1.0, 0.0, 0.0]
    assert given["default"][2]["reward_extra_info"] == {
        "rewards/correctness_reward": 0.0,
        "reason": "wrong",
        "acc": 0.0,
        "score": 0.0,
    }
    assert [result["reward_score"] for result in given["both"]] == TOTALS
    first, last = given["both"][0]["reward_extra_info"], given["both"][3]["reward_extra_info"]
    parts = {"rewards/correctness_reward": 1.0, "rewards/strict_format_reward": 1.0}
    assert first == {**parts, "reason": "right", "acc": 1.0, "score": 1.25}
    assert (last["rewards/correctness_reward"], last["acc"], last["reason"]) == (None, None, None)
    means = given["means"]
    assert set(means) == {"reward", "score", "acc", *parts}  # and not the reason, which is text
    assert means["acc"]["mean@3"] == means["rewards/correctness_reward"]["mean@3"] == pytest.approx(2 / 3)
    assert means["rewards/strict_format_reward"]["mean@4"] == 0.5
    assert means["score"]["mean@4"] == means["reward"]["mean@4"] == 0.625


@pytest.mark.long
def test_openrlhfs_executor_and_experience(reported, tmp_path: Path) -> None:
    file = tmp_path / "my_rewards.py"
    file.write_text(
        "import functools\nfrom grpo_colab.rewards import adapters\n"
        f"reward_func = functools.partial(adapters.reward_func, rewards={WEIGHTS})\n"
    )
    given, said = reported("openrlhf", str(file), folders=("neighbours",))

    def made(total: float, correct: float, strict: float) -> dict[str, list[float]]:
        parts = {"rewards/correctness_reward": [correct], "rewards/strict_format_reward": [strict]}
        return {"reward": [total], "rewards": [total], "score": [correct], **parts}

    assert given["whole"] == [made(total, *parts) for total, parts in zip(TOTALS, PARTS, strict=True)]
    assert given["cut"] == made(1.25, 1.0, 1.0)
    assert given["no gold"]["reward"] == [0.25]
    assert math.isnan(given["no gold"]["score"][0])
    assert math.isnan(given["no gold"]["rewards/correctness_reward"][0])
    assert given["broken gold"]["reward"] == [0.25]
    assert math.isnan(given["broken gold"]["score"][0])
    assert "'18 or 19'" in said


def test_openrlhf_gives_whole_batches_to_its_http_server() -> None:
    prompts = [f"<s>Question {index}\n" for index in range(4)]
    queries = [prompt + text + end for prompt, text, end in zip(prompts, TEXTS, _ENDS[:4], strict=True)]
    given = reward_func(queries, prompts, ["18"] * 4, rewards=WEIGHTS)
    assert given["rewards"].tolist() == TOTALS
    assert given["scores"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert given["extra_logs"]["rewards/strict_format_reward"].tolist() == [1.0, 0.0, 1.0, 0.0]


_ENDS = [
    "</s>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|im_end|><|endoftext|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_turn>",
    "<eos>",
    "",
]


@pytest.mark.parametrize("end", _ENDS)
def test_the_end_of_a_turn_is_no_part_of_what_was_said(end: str) -> None:
    def pays(completion: str) -> float:
        return reward_func(["Why?" + completion], ["Why?"], [None], rewards={"strict_format": 1.0})["rewards"].item()

    assert pays(GOOD + end) == pays(GOOD + "\n" + end) == 1.0
    assert pays(GOOD + end + "and more") == pays(GOOD + end + " ") * 0.0 == 0.0


@pytest.mark.parametrize("text", ["<|a|>" * 200_000, "<|a|>" * 200_000 + "x", "<|" * 500_000, "<|" + "a" * 1_000_000])
def test_megabytes_of_special_tokens_cost_no_time(text: str) -> None:
    start = time.perf_counter()
    reward_func(["Why?" + text], ["Why?"], ["18"])
    assert time.perf_counter() - start < 20  # the square of a megabyte takes hours


def test_a_query_without_its_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="reward_func: the query does not begin with its prompt: '<answer>18"):
        reward_func([RIGHT], ["How many?"], ["18"])
    with pytest.raises(ValueError, match="does not begin with its prompt"):
        reward_func([RIGHT], ["A long question, of which only the last sign stands there too. <"], ["18"])


def test_what_verl_hands_over_becomes_columns() -> None:
    def columns_reward(completions: list[str], answer: list[str], data_source: list[str], split: list[str], **kwargs):
        assert (completions, answer, data_source, split) == ([GOOD], ["18"], ["eggs"], ["train"])
        return [3.0]

    extra = {"answer": "not the gold", "split": "train", "completions": "neither"}
    given = compute_score("eggs", GOOD, "18", extra, rewards=combine([columns_reward]), reward_router_address="x")
    assert given == {"rewards/columns_reward": 3.0, "reason": None, "acc": 3.0, "score": 3.0}
    assert extra == {"answer": "not the gold", "split": "train", "completions": "neither"}


def test_rewards_of_a_file_an_async_one_and_one_that_cannot_judge(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import pathlib\n"
        f"with pathlib.Path({str(tmp_path / 'runs')!r}).open('a') as runs:\n    runs.write('x')\n"
        "async def half_reward(completions, **kwargs):\n    return [0.5 for _ in completions]\n"
    )
    overlong = "soft_overlong_punishment(max_completion_len=10, soft_punish_cache=5)"
    rewards = {f"{file}:half_reward": 2.0, overlong: 1.0, "correctness": 1.0}
    expected = {
        "rewards/half_reward": 0.5,
        "rewards/soft_overlong_punishment_reward": None,
        "rewards/correctness_reward": 1.0,
        "reason": "right",
        "acc": 0.5,
        "score": 2.0,
    }
    assert [compute_score("eggs", GOOD, "18", rewards=rewards) for _ in range(3)] == [expected] * 3
    assert (tmp_path / "runs").read_text() == "x"  # the file is run once


@pytest.mark.parametrize(
    ("rewards", "setting", "remedy"),
    [
        ({"corectness": 1.0}, None, "did you mean 'correctness'"),
        ({}, "parts", "one reward or more"),
        ({"correctness": 1.0, "cosine_scaled(max_len=0)": 1.0}, "max_len", "a number of"),
        ({"correctness": float("nan")}, "weights", "finite numbers"),
        ({"correctness": 1.0, "correctness_reward": 1.0}, "parts", "different names"),
    ],
)
def test_rewards_that_cannot_work_are_refused(rewards: dict[str, float], setting: str | None, remedy: str) -> None:
    from refusals import refused  # not in the processes that run this file by itself

    # which of several rewards has the setting
    place: Any = "cosine_scaled(max_len=0)" if setting == "max_len" else None
    with refused(setting, remedy=remedy, place=place):
        compute_score("eggs", GOOD, "18", rewards=rewards)
    with refused(setting, remedy=remedy):
        reward_func(["?" + GOOD], ["?"], ["18"], rewards=rewards)


def test_what_no_reward_can_judge_counts_nothing() -> None:
    unjudged = {"rewards/correctness_reward": None, "reason": None, "acc": None, "score": 0.0}
    assert compute_score("eggs", GOOD, None) == unjudged
    assert reward_func(["?" + GOOD], ["?"], [None])["rewards"].tolist() == [0.0]


def test_a_gold_that_cannot_be_read_counts_as_none_and_a_number_is_one() -> None:
    unjudged = {"rewards/correctness_reward": None, "reason": None, "acc": None, "score": 0.0}
    with pytest.warns(UserWarning, match="correctness_reward: the gold answer is not one number .*: '18 to 20'"):
        assert compute_score("eggs", GOOD, "18 to 20") == unjudged
    parts = {"rewards/correctness_reward": None, "rewards/strict_format_reward": 1.0}
    assert compute_score("eggs", GOOD, "18 to 20", rewards=WEIGHTS) == unjudged | parts | {"score": 0.25}
    given = reward_func(["?" + GOOD] * 3, ["?"] * 3, ["18 to 20", 18, 18.0])
    assert given["rewards"].tolist() == [0.0, 1.0, 1.0]
    assert math.isnan(given["scores"][0])
    assert compute_score("eggs", GOOD, 18)["score"] == compute_score("eggs", GOOD, "6 * 3\n#### 18")["score"] == 1.0


def test_a_gold_of_another_type_raises() -> None:
    from refusals import refused

    problem = "a gold answer is a string, a number or None, got list: [18]"
    with refused("rewards.correctness", problem=problem, kind=RewardError):
        reward_func(["?" + GOOD], ["?"], [[18]])  # type: ignore[list-item]


def test_one_completion_for_verifiers() -> None:
    grader = verifiers_reward(correctness_reward)
    assert grader.__name__ == "correctness_reward"
    assert [asyncio.run(grader(completion=text, answer="18")) for text in TEXTS] == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="correctness_reward cannot judge this completion"):
        asyncio.run(grader(completion=GOOD, answer=None))
    overlong = verifiers_reward(get_soft_overlong_punishment_reward(10, 5))
    with pytest.raises(ValueError, match="soft_overlong_punishment_reward cannot judge"):
        asyncio.run(overlong(completion=GOOD))


def test_adapters_can_be_pickled_and_work_in_threads() -> None:
    think = verifiers_reward(get_strict_format_reward("think"))
    again, scorer, batch = pickle.loads(
        pickle.dumps((think, partial(compute_score, rewards=WEIGHTS), partial(reward_func, rewards=WEIGHTS)))
    )

    def graded(index: int) -> tuple[Any, ...]:
        text = TEXTS[index % 4]
        said = asyncio.run(again(completion=text.replace("reasoning", "think")))
        return said, scorer("eggs", text, "18")["score"], batch(["?" + text], ["?"], ["18"])["rewards"].item()

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(graded, range(64)))
    assert given == [(parts[1], total, total) for total, parts in zip(TOTALS, PARTS, strict=True)] * 16


def test_importing_the_adapters_brings_nothing_heavy() -> None:
    code = "import sys, grpo_colab.rewards.adapters; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "grpo_colab" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "verifiers", "verl", "openrlhf", "pydantic", "asyncio"})


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
