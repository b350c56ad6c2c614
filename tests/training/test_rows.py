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
from grpo_colab.evaluation.scoring import score
from grpo_colab.reporting import report
from grpo_colab.reporting.embedding import embed
from grpo_colab.tasks.conversations import prompt_key

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
