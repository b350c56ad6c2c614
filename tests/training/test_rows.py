"""What the rewards are given is what the file has and what the log says, row by row; nothing goes through Arrow."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grpo_colab import Recipe, Run, train
from grpo_colab.evaluation.scoring import default_rewards, score
from grpo_colab.reporting import report
from grpo_colab.reporting.embedding import embed
from grpo_colab.reporting.page.run_reader import read_run
from grpo_colab.rewards import combine, correctness_reward, get_code_reward, length_reward
from grpo_colab.tasks.conversations import prompt_key
from grpo_colab.training.trainer_rows import Kept

pytestmark = pytest.mark.stack

# Keeps what it is given, by call.
KEEPS = """
import json
from pathlib import Path

def keeps_reward(completions, prompts, answer, trainer_state=None, **kwargs):
    columns = {key: value for key, value in kwargs.items() if key not in ("log_extra", "log_metric", "completion_ids")}
    for column in columns.values():  # a reward that spoils what it is given
        for value in column:
            if isinstance(value, dict):
                value["spoilt"] = True
    step = None if trainer_state is None else trainer_state.global_step + 1
    row = {"step": step, "prompts": prompts, "answer": answer, "columns": columns}
    with (Path(__file__).parent / "given.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\\n")
    return [float(len(completion[0]["content"]) % 3) for completion in completions]
"""


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def trained(folder: Path, rows: list[dict[str, Any]], steps: int = 2) -> tuple[Run, list[dict[str, Any]]]:
    """A short run on these rows, and what its reward was given, by call."""
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(KEEPS)
    (folder / "given.jsonl").unlink(missing_ok=True)
    path = write(folder / "rows.jsonl", rows)
    recipe = Recipe.load(
        task={"name": "jsonl", "path": path, "test_path": path, "duplicates": "keep", "max_prompt_tokens": 400},
        rewards={**dict.fromkeys(Recipe.load().rewards, False), f"{folder}/own.py:keeps_reward": 1.0},
        grpo={"num_generations": 2, "max_completion_length": 4},
        budget={"max_steps": steps, "prompts_per_step": 2, "rehearsal": False},
        evaluation={"n": 4, "max_completion_tokens": 2},
    )
    run = train(recipe, out=folder / f"run{random.randrange(10**9)}")
    given = [json.loads(line) for line in (folder / "given.jsonl").read_text().splitlines()]
    return run, [one for one in given if one["step"] is not None]


def unspoilt(value: Any) -> Any:
    return {key: one for key, one in value.items() if key != "spoilt"} if isinstance(value, dict) else value


def check_logged(run: Run, given: list[dict[str, Any]], rows: list[dict[str, Any]], steps: int = 2) -> None:
    """Every row that the rewards were given is one of the file, and the log has its prompt and its gold answer."""
    in_file = [
        (prompt_key(row["prompt"]), str(row["answer"]), {k: v for k, v in row.items() if k not in ("prompt", "answer")})
        for row in rows
    ]
    columns = {name for _, _, row in in_file for name in row}
    logged = run.completions()
    assert len(logged) == 4 * steps
    for step in range(1, steps + 1):
        [call] = [one for one in given if one["step"] == step]
        in_log = [row for row in logged if row["step"] == step]
        assert [row["answer"] for row in in_log] == call["answer"]
        assert [row["prompt"] for row in in_log] == call["prompts"]
        for index, (prompt, answer) in enumerate(zip(call["prompts"], call["answer"], strict=True)):
            row = {name: unspoilt(call["columns"][name][index]) for name in columns}
            asked = [message for message in prompt if not message["content"].startswith("Respond in")]
            found = [
                {name: one.get(name) for name in columns}
                for key, gold, one in in_file
                if gold == answer and key in (prompt_key(prompt), prompt_key(asked), prompt_key(prompt[1:]))
            ]
            assert row in found


def test_messages_of_other_keys_columns_of_objects_and_two_types(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"What is {n} + 1?", "tool_calls": None}],
            "answer": n + 1,
            "units": {f"unit_{n}": "apples"},
            "mixed": n if n % 2 else str(n),
            "id": 100000000000000000031 + n,
        }
        for n in range(12)
    ]
    run, given = trained(tmp_path / "odd", rows)
    check_logged(run, given, rows)
    assert all(row["answer"] is not None for row in run.completions())


READS = """
def named_reward(completions, topic, completion_ids, **kwargs):
    return [float(len(t) + len(ids)) for t, ids in zip(topic, completion_ids)]

def taken_reward(completions, **kwargs):
    return [float(step) + rewards["a"] for step, rewards in zip(kwargs["step"], kwargs["rewards"])]
"""


def test_a_run_is_scored_by_its_own_rewards_as_it_was_paid(tmp_path: Path) -> None:
    """Its data set has columns with names of a log's own keys, and one that is larger than a row of the log may be."""
    rows = [
        {"prompt": f"What is {n}?", "answer": n, "topic": "x" * n, "step": n, "rewards": {"a": n / 2}, "columns": "c"}
        | {"large": "y" * 10_000, "completion": "no column of TRL's"}
        for n in range(12)
    ]
    (tmp_path / "own.py").write_text(READS)
    path = write(tmp_path / "rows.jsonl", rows)
    own = {f"{tmp_path}/own.py:{name}_reward": 1.0 for name in ("named", "taken")}
    recipe = Recipe.load(
        task={"name": "jsonl", "path": path, "test_path": path, "duplicates": "keep", "max_prompt_tokens": 400},
        rewards={**own, "cosine_scaled(max_len=64)": 1.0},
        grpo={"num_generations": 2, "max_completion_length": 24},
        budget={"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
        evaluation={"n": 4, "max_completion_tokens": 2},
    )
    run = train(recipe, out=tmp_path / "run")
    logged = run.completions()
    assert all(set(row["columns"]) == {"topic", "step", "rewards", "columns"} for row in logged)
    assert all(row["left_out"] == ["large"] for row in logged)
    names = default_rewards(run.path)
    assert names == list(recipe.rewards)
    scores = score(run.path, names)
    assert scores.otherwise_than_in_run() == {name: [] for name in logged[0]["rewards"]}
    assert scores.paid["taken"] == [row["rewards"]["taken"] for row in logged]
    assert len(read_run(run).completions) == len(logged)


def test_only_what_a_reward_may_read_is_kept() -> None:
    row = {"prompt": "p", "answer": "1", "topic": "x", "other": [1, 2]}

    def named_reward(completions: Any, topic: Any, **kwargs: Any) -> list[float]:
        return []

    assert Kept.of([correctness_reward]).columns_of(row) == ({}, [])
    assert Kept.of([correctness_reward, named_reward]).columns_of(row) == ({"topic": "x", "other": [1, 2]}, [])
    ours = get_code_reward(workers=1)
    both = combine([correctness_reward, ours])
    for rewards in ([ours], [both]):
        assert Kept.of(rewards).columns_of(row | {"tests": ["a"]}) == ({"tests": ["a"]}, [])
    # what a reward names comes first, and a part of a column is never kept
    large = {"other": "y" * 8000, "topic": "x" * 8000, "many": list(range(600)), "few": 1}
    columns, left_out = Kept.of([named_reward]).columns_of(row | large)
    assert columns == {"topic": "x" * 8000, "few": 1}
    assert left_out == ["other", "many"]
    assert not Kept.of([named_reward]).token_ids
    assert Kept.of([length_reward]).token_ids


def test_one_prompt_with_many_golds(tmp_path: Path) -> None:
    rows = [{"prompt": "How many now?", "answer": n} for n in range(12)]
    run, given = trained(tmp_path / "same", rows)
    check_logged(run, given, rows)
    assert len({row["answer"] for row in run.completions()}) > 1


CONTENT = st.text("abc 12\n", min_size=1, max_size=10).filter(str.strip)
PROMPT = st.one_of(
    CONTENT,
    st.tuples(
        st.one_of(st.just([]), CONTENT.map(lambda text: [{"role": "system", "content": text}])),
        st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(("user", "assistant")), "content": CONTENT}), min_size=1
        ),
    ).map(lambda parts: parts[0] + parts[1][:3]),
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text("xyz", max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text("kl", max_size=2), inner, max_size=2)),
    max_leaves=4,
)


def test_training_score_embed_and_report_agree_on_prompt_identity_and_gold(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Made-up conversations and columns: what each part makes of them is compared with the file."""

    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(PROMPT, st.integers(0, 99), VALUE), min_size=8, max_size=8))
    def agree(drawn: list[tuple[Any, int, Any]]) -> None:
        folder = tmp_path_factory.mktemp("made")
        rows = [{"prompt": prompt, "answer": answer, "meta": value} for prompt, answer, value in drawn]
        run, given = trained(folder / "made", rows, steps=1)
        check_logged(run, given, rows, steps=1)
        evaluated = run.answers("evaluation-before.jsonl")
        by_place = {f"{folder / 'made' / 'rows.jsonl'}:{n}": row for n, row in enumerate(rows, 1)}
        for answer in evaluated:
            assert answer["answer"] == str(by_place[answer["source"]]["answer"])

        logged = [{**row, "completion": f"<answer>{row['answer']}</answer>"} for row in run.completions()]
        wanted = [row.pop("answer") for row in logged]
        golds: dict[str, set[str]] = {}
        for row in rows:
            golds.setdefault(prompt_key(row["prompt"]), set()).add(str(row["answer"]))
        if all(len(found) == 1 for found in golds.values()):
            path = write(folder / "logged.jsonl", logged)
            done = score(path, ["correctness"], golds=folder / "made" / "rows.jsonl")
            assert [row["answer"] for row in done.rows] == wanted

        found = embed(run=run.path, out=folder / "map")
        assert found.asked > 0
        page = report([run.path], out=folder / "page.html")
        assert page.exists()

    agree()
