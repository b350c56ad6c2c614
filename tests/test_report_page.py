"""report.html: one file that needs no other, in which whatever a model wrote is only text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.evaluate import AFTER, BEFORE, comparison
from grpo_colab.report import draw_rewards, write_report
from grpo_colab.report.page import MOST_CHANGED

VOID = {"meta", "img", "rect", "path"}
NASTY = {
    "a script": "<script>alert(1)</script>",
    "an image that runs": '<img src=x onerror="alert(1)">',
    "an attribute's end": "' onmouseover='alert(1)' \" >",
    "the end of the page": "</pre></details></body></html>",
    "a template's place": "$title ${sections} $$ {braces} %s",
    "a comment": "<!-- <!--> ]]>",
    "control characters": "a\x00b\x07c\x1b[31md\x9fe\u2028f\ufffeg",
    "half a pair": "half \ud800 pair",
    "from right to left": "a\u202eright to left\u202c\u2066b\u2069",
    "many scripts": "😀 漢字 ق́ π ≠ ∞",
}


class Page(HTMLParser):
    """What a browser would see: tags that are open and closed in order, their attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.tags)


def answered(right: bool, completion: str = "<answer>7</answer>", question: str = "3 + 4?") -> dict[str, Any]:
    rewards = {"correctness": float(right)}
    verdict = {"right": right, "verdict": "right" if right else "wrong", "lenient_right": right, "rewards": rewards}
    return {"source": "here:1", "question": question, "answer": "7", "completion": completion, **verdict}


def drawn(completion: str, step: int = 1) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "3 + 4?"}]
    rewards = {"correctness_reward": 1.0, "mine_reward": None}
    return {"step": step, "group": 0, "prompt": prompt, "completion": completion, "answer": "7", "rewards": rewards}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(Recipe.load(budget={"max_steps": 4}), tmp_path / "run")


def finished(run: Run, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    run.write_lines(BEFORE, before)
    run.write_lines(AFTER, after)
    evaluation = comparison(run.recipe, before, after, 4)
    run.write_json("evaluation.json", evaluation)
    return evaluation


def test_a_run_that_has_just_begun_has_a_page_already(run: Run) -> None:
    page = Page(write_report(run))
    assert "Not evaluated yet." in page.text
    assert "0 of 4 steps" in page.text
    assert page.count("img") == 0


def test_accuracy_intervals_and_the_paired_test_are_those_of_the_evaluation(run: Run) -> None:
    before = [answered(i < 6) for i in range(20)]
    after = [answered(i >= 2) for i in range(20)]
    evaluation = finished(run, before, after)
    page = Page(write_report(run))
    for side in ("before", "after"):
        low, high = evaluation[side]["ci95"]
        assert f"{100 * evaluation[side]['accuracy']:.1f} %{100 * low:.1f} to {100 * high:.1f} %" in page.text
    assert "14 gained, 2 lost" in page.text
    assert f"McNemar p = {evaluation['paired']['p_value']:.2g}" in page.text
    assert "more than chance explains" in page.text


def test_an_evaluation_that_is_not_written_yet_can_be_given(run: Run) -> None:
    rows = [answered(True)] * 3
    evaluation = comparison(run.recipe, rows, rows, 4)
    page = Page(write_report(run, evaluation))
    assert "3 held-out problems" in page.text
    assert "no more than chance may explain" in page.text


def test_of_the_answers_that_changed_lost_ones_come_first_and_twenty_are_shown(run: Run) -> None:
    before = [answered(i % 10 == 0, question=f"question {i}.") for i in range(100)]
    after = [answered(i % 10 != 0, question=f"question {i}.") for i in range(100)]
    finished(run, before, after)
    page = Page(write_report(run))
    shown = re.findall(r"(gained|lost) question (\d+)\.", page.text)
    assert len(shown) == MOST_CHANGED
    assert [word for word, _ in shown[:10]] == ["lost"] * 10
    assert {int(number) % 10 for word, number in shown if word == "lost"} == {0}
    assert "gained" in {word for word, _ in shown}
    assert f"{MOST_CHANGED} of 100." in page.text


@pytest.mark.parametrize("case", NASTY)
def test_what_a_model_wrote_is_only_text(case: str, run: Run) -> None:
    plain = Page(write_report_of(run, "harmless"))
    page = Page(write_report_of(run, NASTY[case]))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [a for _, a in page.tags] == [a for _, a in plain.tags]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]", page.source)
    readable = re.sub(r"[^ -~]", "", NASTY[case])  # what any page can show
    assert re.sub(r"[^ -~]", "", page.text).count(readable) == 8  # in a question, an answer, and so on


def write_report_of(run: Run, text: str) -> Path:
    finished(run, [answered(False, text, text) | {"answer": text}], [answered(True, text, text) | {"answer": text}])
    (run.path / "completions.jsonl").unlink(missing_ok=True)
    run.append("completions.jsonl", [drawn(text) | {"answer": text, "prompt": text}])
    (run.path / "warnings.jsonl").unlink(missing_ok=True)
    run.append("warnings.jsonl", [{"step": 1, "kind": "constant", "text": text}])
    return write_report(run)


def test_megabytes_are_shortened_and_say_how_long_they_were(run: Run) -> None:
    run.append("completions.jsonl", [drawn("<&\x00" * 1_000_000, step) for step in range(3)])
    path = write_report(run)
    assert "(3,000,000 characters)" in Page(path).text
    assert path.stat().st_size < 100_000


def test_a_long_word_is_broken_wherever_it_stands(run: Run) -> None:
    """600 characters without a space, as a question or a name, must not make the page scroll sideways."""
    style = Page(write_report_of(run, "x" * 600)).source
    assert re.search(r"\nbody \{[^}]*overflow-wrap: anywhere", style)  # which all but the numbers inherit


def test_the_page_needs_no_other_file_and_holds_the_picture(run: Run) -> None:
    run.append(
        "metrics.jsonl",
        [{"step": 1, "reward": 1.0, "reward_std": 0.5, "step_time": 90.0, "rewards/a_reward/mean": 1.0}],
    )
    draw_rewards(run)
    page = Page(write_report(run))
    (source,) = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    kind, _, data = str(source).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (run.path / "rewards.png").read_bytes()
    assert "1.5 min of training" in page.text
    assert not re.findall(r"(?:https?:)?//\w", page.source.replace(data, ""))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed"})


def test_a_page_that_may_be_sent_to_anyone_has_no_key_in_it(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(model={"token": "hf_secret"}), tmp_path / "run")
    run.write_json("environment.json", {"python": "3.11.7", "command": ["train", "--model.token", "hf_secret"]})
    page = Page(write_report(run))
    assert "hf_secret" not in page.source
    assert "num_generations = 8" in page.text
    assert '"python": "3.11.7"' in page.text


def test_one_problem_is_solved_or_not_and_has_no_share(run: Run) -> None:
    side = {"accuracy": 0.0, "ci95": [0.0, 0.79], "lenient_accuracy": 0.0, "rewards": {}}
    evaluation = {"task": "drawing", "n": 1, "before": side, "after": {**side, "accuracy": 1.0}, "step": 7}
    for solved, says in ((True, "Solved</b> in step 7"), (False, "Not solved"), (None, "Its one problem")):
        page = write_report(run, {**evaluation, "solved": solved} if solved is not None else evaluation).read_text()
        assert says in page
        assert "before wrong, after right" in page
        assert "McNemar" not in page
        assert ("olved" in page.split("answered greedily")[0].rpartition("What it learnt")[2]) == (solved is not None)
