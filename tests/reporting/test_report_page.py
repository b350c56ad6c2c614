"""report.html: one file that needs no other, in which whatever a model wrote is only text."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from grpo_colab import Recipe, Run
from grpo_colab.evaluation.evaluate import AFTER, BEFORE, comparison
from grpo_colab.reporting import report, write_report
from grpo_colab.reporting.page.completions import LONGEST
from grpo_colab.reporting.page.page import MOST_BYTES
from grpo_colab.tasks import HINT

VOID = {"meta", "img"}
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
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script gets, at first and then."""
        packed = re.findall(r'id="(?:data|rest)">([^<]*)<', self.source)
        first, later = (json.loads(gzip.decompress(base64.b64decode(one))) for one in packed)
        return first | later

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
    assert "No step has ended yet" in page.text
    assert "went wrong" not in page.text
    assert "0 of 4" in page.text
    assert page.count("img") == 0
    assert (page.data["charts"], page.data["problems"]["rows"], page.data["completions"]["text"]) == ([], [], [])


def test_accuracy_intervals_and_the_paired_test_are_those_of_the_evaluation(run: Run) -> None:
    before = [answered(i < 6, question=f"{i}") for i in range(20)]
    after = [answered(i >= 2, question=f"{i}") for i in range(20)]
    evaluation = finished(run, before, after)
    page = Page(write_report(run))
    for side in ("before", "after"):
        low, high = evaluation[side]["ci95"]
        assert f"{100 * evaluation[side]['accuracy']:.1f} %{100 * low:.1f} to {100 * high:.1f} %" in page.text
    assert "14 gained, 2 lost" in page.text
    assert f"McNemar p = {evaluation['paired']['p_value']:.2g}" in page.text
    assert "more than chance explains" in page.text
    (chart,) = [one for one in page.data["charts"] if one["title"] == "Held-out accuracy"]
    assert chart["table"][0] == [0, 0.3, *evaluation["before"]["ci95"], 0.3]
    assert chart["table"][1] == [4, 0.9, *evaluation["after"]["ci95"], 0.9]


@pytest.mark.parametrize(
    ("steps", "said"), [(32, "32 steps of pre-training"), (1, "1 step of"), (0, ""), ("<b>", ""), (1e999, "")], ids=str
)
def test_the_accuracy_of_a_pre_trained_policy_is_called_so(run: Run, steps: Any, said: str) -> None:
    finished(run, [answered(False)] * 8, [answered(True)] * 8)
    settings = tomllib.loads((run.path / "recipe.toml").read_text()) | {"pretraining": {"steps": steps}}
    (run.path / "recipe.toml").write_text(tomli_w.dumps(settings))
    text = Page(write_report(run)).text
    assert said in text
    assert ("came first, so “before” is not the model as it was published" in text) == bool(said)


def test_an_evaluation_that_is_not_written_yet_can_be_given_and_ends_the_run(run: Run) -> None:
    rows = [answered(True)] * 3
    evaluation = comparison(run.recipe, rows, rows, 4)
    page = Page(write_report(run, evaluation))
    assert "3 held-out problems" in page.text
    assert "no more than chance may explain" in page.text
    assert "; finished;" in page.text


def test_what_a_run_that_still_trains_answered_before_is_shown(run: Run) -> None:
    run.write_lines(BEFORE, [answered(i < 5, question=f"{i}") for i in range(10)])
    page = Page(write_report(run))
    assert "before50.0 %23.7 to 76.3 %" in page.text  # Wilson's interval of 5 in 10, from a table
    assert {row["kind"] for row in page.data["problems"]["rows"]} == {"answered once"}


def test_all_problems_are_there_and_what_was_lost_comes_first(run: Run) -> None:
    rights = [(i % 10 == 0, i % 10 != 0) if i < 90 else (i < 95, i < 95) for i in range(100)]
    before = [answered(was, question=f"question {i}") for i, (was, _) in enumerate(rights)]
    after = [answered(now, question=f"question {i}") for i, (_, now) in enumerate(rights)]
    finished(run, before, list(reversed(after)))  # whatever order they are in
    rows = Page(write_report(run)).data["problems"]["rows"]
    kinds = ["lost"] * 9 + ["gained"] * 81 + ["wrong in both"] * 5 + ["right in both"] * 5
    assert [row["kind"] for row in rows] == kinds
    assert {row["question"] for row in rows[:9]} == {f"question {i}" for i in range(0, 90, 10)}


@pytest.mark.parametrize(
    ("settings", "verdicts"),
    [
        ({"answer_in": "boxed"}, ["right", "no tag", "many numbers"]),
        ({"answer_in": "boxed", "locale": "de"}, ["right", "no tag", "right"]),
        ({}, ["no tag", "right", "no tag"]),
        ({"answer_in": "<b>"}, [None, None, None]),  # what no task could have, in a file that may be anyone's
        ({"locale": 7}, [None, None, None]),
    ],
    ids=str,
)
def test_the_verdict_is_that_of_the_runs_task(settings: dict[str, Any], verdicts: list[str | None], run: Run) -> None:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    recipe = run.path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("[task]\n", f"[task]\n{lines}"))
    run.append("completions.jsonl", [drawn(text) for text in ("\\boxed{7}", "<answer>7</answer>", "\\boxed{7,0}")])
    assert Page(write_report(run)).data["completions"]["verdict"] == verdicts


def test_completions_have_their_verdict_their_weighted_reward_and_their_group(run: Run) -> None:
    rewards = dict.fromkeys(("correctness", "integer", "strict_format", "soft_format", "tag_count"), 1.0)
    for step in (1, 2):
        texts = ("<answer>7</answer>", "<answer>8</answer>", "7")
        run.append("completions.jsonl", [drawn(text, step) | {"rewards": rewards, "advantage": 0.5} for text in texts])
    found = Page(write_report(run)).data["completions"]
    assert found["verdict"] == ["right", "wrong", "no tag"] * 2
    assert found["reward"] == [sum(run.recipe.rewards.values())] * 6
    assert found["group"] == [0, 0, 0, 1, 1, 1]
    assert found["prompts"] == [[["user", "3 + 4?"]]]
    assert found["parts"] == [[1.0] * 5] * 6


def test_what_was_never_solved_before_and_is_now_is_said(run: Run) -> None:
    """Three problems with a hint: of one nothing more is known, one fails again, and one is solved without the hint."""

    def rows(step: int, question: str, right: bool, hint: int = 0) -> list[dict[str, Any]]:
        asked = f"{question}\n\n{HINT}\n1 + 1 = 2" if hint else question
        found = []
        for paid in (0.0, float(right)):
            row = {"step": step, "group": 0, "prompt": [{"role": "user", "content": asked}], "completion": "x"}
            row |= {"rewards": {"correctness_reward": paid}, "advantage": 0.0, "answer": "2"}
            found.append(row | ({"hint": hint} if hint else {}))
        return found

    lines = [
        *rows(1, "What is <b>one</b>?", True, hint=1),
        *rows(2, "What is two?", False, hint=1),
        *rows(3, "What is three?", True, hint=1),
        *rows(4, "What is two?", False),
        *rows(5, "What is three?", True),
        *rows(5, "What is four?", True),
    ]
    run.write_lines("completions.jsonl", lines)
    page = Page(report([run.path]))
    text = " ".join(page.text.split())
    assert "3 problems were asked with a part of the solution" in text
    assert "2 of them were solved with it." in text
    assert "2 came again in a later step without it, of which 1, never solved before, is now." in text
    assert "Solved with a part of the solution: 2What is <b>one</b>?What is three?" in text
    assert "Never solved before, and solved since without it: 1What is three?" in text
    run.write_lines("completions.jsonl", lines[-2:])
    assert "a part of the solution" not in Page(report([run.path])).text


def test_what_rewards_gave_to_log_extra_stands_with_its_completion(run: Run) -> None:
    extras: list[Any] = [{"extracted": "7", "judge": 0.123456789}, {"extracted": None}, "torn", {"nested": {"a": [1]}}]
    rows = [drawn("<answer>7</answer>") | {"extra": extra} for extra in extras] + [drawn("<answer>8</answer>")]
    run.append("completions.jsonl", rows)
    found = Page(write_report(run)).data["completions"]["extra"]
    assert found == [[["extracted", "7"], ["judge", "0.123457"]], [], [], [["nested", "{'a': [1]}"]], []]
    many = [drawn("x" * 100, step) | {"extra": {"said": f"{step} {'y' * 20_000}"}} for step in range(2, 9)]
    run.append("completions.jsonl", many)
    said = Page(write_report(run)).data["completions"]["extra"][-1][0][1]
    assert said.startswith("8 yyy")
    assert "(20,002 characters)" in said
    assert len(said) < 3000


@pytest.mark.parametrize("case", NASTY)
def test_what_a_model_wrote_is_only_text(case: str, run: Run) -> None:
    plain = Page(write_report_of(run, "harmless"))
    page = Page(write_report_of(run, NASTY[case]))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    changing = {"nonce", "content"}  # which follow the data
    attributes = [[{k: v for k, v in a.items() if k not in changing} for _, a in one.tags] for one in (page, plain)]
    assert attributes[0] == attributes[1]
    everything = page.source + json.dumps(page.data, ensure_ascii=False)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", everything)
    readable = re.sub(r"[^ -~]", "", NASTY[case])  # what any page can show
    assert readable in re.sub(r"[^ -~]", "", page.text)  # of the warning
    found = page.data
    (row,) = found["problems"]["rows"]
    completions = found["completions"]
    shown = [*(row[key] for key in ("question", "answer", "before", "after")), completions["text"][0]]
    shown += [completions["prompts"][0][0][1], completions["answer"][0], completions["names"][0]]
    shown += [next(chart["traces"][0]["name"] for chart in found["charts"] if "unweighted" in chart["title"])]
    assert [readable in re.sub(r"[^ -~]", "", text) for text in shown] == [True] * len(shown)


@pytest.mark.parametrize(
    "further",
    ["x", [1], {"a": 7}, {"a": {"before": "x", "after": {"accuracy": 7}, "n": -1, "about": [1], "further": {"b": {}}}}],
    ids=str,
)
def test_damage_in_a_further_split_does_not_end_the_page(further: Any, run: Run) -> None:
    evaluation = finished(run, [answered(False)] * 8, [answered(True)] * 8)
    run.write_json("evaluation.json", {**evaluation, "note": 7, "further": further})
    assert "8 held-out problems of word problems" in Page(write_report(run)).text


STRANGER = "<b class=stranger>'\"&</b>"


def everywhere(run: Run) -> None:
    """Put STRANGER wherever a file of a run folder may hold a text."""
    recipe = {"name": STRANGER, "model": {"model_name": STRANGER}, "task": {"name": STRANGER}}
    recipe |= {"rewards": {STRANGER: 1.0}, "table": {STRANGER: STRANGER}, "budget": {"max_steps": 4}}
    (run.path / "recipe.toml").write_text(tomli_w.dumps(recipe))
    run.write_json("environment.json", {"device": {"name": STRANGER}, STRANGER: STRANGER})
    run.write_json("tripwire.json", {"wire": STRANGER, "step": 3, "what": STRANGER, "suggestion": STRANGER})
    rates = {"back_to": 1, "learning_rate_before": 2.0, "learning_rate": 1.0}
    run.write_json("collapse.json", {"step": 2, "what": STRANGER, **rates})
    run.write_json("reward-failure.json", {"reward": STRANGER, "what": STRANGER, "step": 3})
    run.append("metrics.jsonl", [{"step": n, STRANGER: "no number", f"verdict/{STRANGER}": 0.5} for n in (1, 2)])
    run.append("warnings.jsonl", [{"step": STRANGER, "text": STRANGER}])
    run.append("completions.jsonl", [drawn(STRANGER) | {"prompt": STRANGER, "rewards": {STRANGER: 1.0}}])
    sides = [[answered(right, STRANGER, STRANGER) | {"verdict": STRANGER}] * 2 for right in (False, True)]
    run.write_lines(BEFORE, sides[0])
    run.write_lines(AFTER, sides[1])
    rates = {"accuracy": 0.5, "ci95": [0.1, 0.9], "lenient_accuracy": 0.5}
    told = {"task": STRANGER, "n": 2, "step": 1, "before": rates, "after": rates, "note": STRANGER}
    run.write_json("evaluation.json", {**told, "further": {STRANGER: {**told, "about": STRANGER}}})


def test_a_strangers_text_is_escaped_in_every_place(tmp_path: Path) -> None:
    """Of one run and of several: the title, model, device, folder, task, what went wrong, and the settings."""
    runs = [Run.create(Recipe.load(), tmp_path / f"run {n} {STRANGER.replace('/', '')}") for n in (1, 2)]
    for run in runs:
        everywhere(run)
    (runs[1].path / "recipe.toml").write_text(f'name = "other"\n[table]\n"{STRANGER.replace(chr(34), "")}" = "&<i>"\n')
    one, both = (Page(report(paths, tmp_path / "page.html")) for paths in ([runs[0].path], [run.path for run in runs]))
    for page in (one, both):
        assert page.count("b", **{"class": "stranger"}) == page.count("i") == 0
    name = runs[0].path.name
    told = (
        f"{STRANGER} on {STRANGER}; stopped; run folder {name}",
        f"2 held-out problems of {STRANGER}, answered greedily",
        f"2 held-out problems of {STRANGER}, {STRANGER}: not on both sides yet.",
        f"The tripwire {STRANGER} stopped the run at step 3: {STRANGER}. To change: {STRANGER}. See",
        f"The run collapsed at step 2: {STRANGER}: back to checkpoint-1, once, with half the learning rate (1 for 2)",
        f"A reward broke: {STRANGER}: {STRANGER}, at step 3",
        f"Step {STRANGER}: {STRANGER}",
    )
    for text in told:
        assert text in one.text
    assert one.text.count(STRANGER) > len(told) + 4
    assert f"{name}: Recipe" in both.text
    assert "&<i>" in both.text  # a setting in which they differ
    assert both.text.count(name) >= 4  # the table, the differences, what went wrong, and the settings


def test_a_page_that_is_made_with_a_text_in_the_place_of_a_template_is_text(run: Run) -> None:
    run.append("warnings.jsonl", [{"step": 1, "text": "{{ 7 * 7 }} {% include 'page.html.j2' %} {# gone #}"}])
    assert "{{ 7 * 7 }} {% include 'page.html.j2' %} {# gone #}" in Page(write_report(run)).text


def write_report_of(run: Run, text: str) -> Path:
    finished(run, [answered(False, text, text) | {"answer": text}], [answered(True, text, text) | {"answer": text}])
    for name in ("completions.jsonl", "warnings.jsonl", "metrics.jsonl"):
        (run.path / name).unlink(missing_ok=True)
    run.append("completions.jsonl", [drawn(text) | {"answer": text, "prompt": text, "rewards": {text: 1.0}}])
    run.append("warnings.jsonl", [{"step": 1, "kind": "constant", "text": text}])
    run.append("metrics.jsonl", [{"step": n, "reward": n, f"rewards/{text}/mean": n} for n in (1, 2)])
    return write_report(run)


def test_of_megabytes_both_ends_are_shown_and_how_long_they_were(run: Run) -> None:
    run.append("completions.jsonl", [drawn("begin" + "<&\x00" * 1_000_000 + "end", step) for step in range(3)])
    path = write_report(run)
    for text in Page(path).data["completions"]["text"]:
        assert text.startswith("begin<&")
        assert text.endswith("end")
        assert "of 3,000,008 characters are left out" in text
        assert len(text) < LONGEST + 100
    assert path.stat().st_size < 2_500_000  # of which the chart library is two


def test_a_page_that_would_be_too_big_has_whole_groups_evenly_over_the_steps(run: Run) -> None:
    rng = random.Random(0)
    for step in range(1, 101):
        text = rng.randbytes(4000).hex()  # compresses to half at best: 100 steps are 8 MB in base64
        run.append("completions.jsonl", [drawn(rng.randbytes(6000).hex()[:11000] + text[:900], step) for _ in range(8)])
    path = write_report(run)
    assert path.stat().st_size < MOST_BYTES
    page = Page(path)
    steps = page.data["completions"]["step"]
    assert 200 < len(steps) < 800
    assert f"{len(steps)} of 800 completions, evenly over the steps." in page.text
    assert {steps.count(step) for step in set(steps)} == {8}
    assert max(b - a for a, b in itertools.pairwise(sorted({0, *steps, 101}))) <= 3


def test_a_long_word_is_broken_wherever_it_stands(run: Run) -> None:
    """600 characters without a space, as a question or a name, must not make the page scroll sideways."""
    style = Page(write_report_of(run, "x" * 600)).source
    assert re.search(r"\nbody \{[^}]*overflow-wrap: anywhere", style)  # which all but the numbers inherit


def test_the_page_needs_no_other_file_and_holds_the_pictures(run: Run) -> None:
    run.append("metrics.jsonl", [{"step": 1, "reward": 1.0, "reward_std": 0.5, "step_time": 90.0}])
    picture = b"\x89PNG\r\n\x1a\n and so on"
    (run.path / "drawing.png").write_bytes(picture)
    page = Page(write_report(run))
    (source,) = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    kind, _, data = str(source).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == picture
    assert "1.5 min" in page.text
    attributes = [value for _, found in page.tags for name, value in found.items() if name in ("src", "href", "action")]
    assert {str(value).partition(":")[0][0] for value in attributes} <= {"d", "#"}  # data: and parts of the page
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "iframe", "object", "embed"})


def test_the_chart_library_is_the_one_that_is_installed_and_told_to_be_read_once(run: Run) -> None:
    """Parentheses around the function that holds it; V8 reads all of it twice without them, a third of opening."""
    from plotly.offline import get_plotlyjs

    (packed,) = re.findall(r'id="library">([^<]*)<', write_report(run).read_text(encoding="utf-8"))
    library = gzip.decompress(base64.b64decode(packed)).decode()
    assert ", (() => {" in library[:1000]
    assert re.sub(r"[()\s]", "", library) == re.sub(r"[()\s]", "", get_plotlyjs())


def test_a_page_that_may_be_sent_to_anyone_has_no_key_in_it(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(model={"token": "hf_secret"}), tmp_path / "run")
    run.write_json("environment.json", {"python": "3.11.7", "command": ["train", "--model.token", "hf_secret"]})
    other = Run.create(Recipe.load(grpo={"hub_token": "hf_secret"}), tmp_path / "other")
    for path in (write_report(run), report([run.path, other.path], tmp_path / "both.html")):
        page = Page(path)
        assert "hf_secret" not in page.source
        assert "hf_secret" not in json.dumps(page.data)
        assert "num_generations = 8" in page.text
        assert '"python": "3.11.7"' in page.text


def test_whatever_opens_something_is_left_out_wherever_it_stands(run: Run) -> None:
    """In keys of any name that end so, in addresses, and as the hub writes its tokens."""
    secret = "hf_" + "aBcDeFgHiJ" * 3
    given = {
        "HF_TOKEN": "s3cret",
        "wandb_api_key": "s3cret",
        "db": {"Password": "s3cret"},
        "where": "https://me:s3cret@host/x",
    }
    given |= {
        "link": "https://host/x?a=1&token=s3cret&b=2",
        "said": f"logged in with {secret}",
        "argv": [f"--t={secret}"],
    }
    run.write_json("environment.json", given)
    recipe = run.path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("max_steps = 4", 'max_steps = 4\nmirror = "s3://me:s3cret@bucket/x"'))
    run.append("warnings.jsonl", [{"step": 1, "text": "the mirror https://me:s3cret@host/x cannot be reached"}])
    page = Page(write_report(run))
    for hidden in ("s3cret", secret):
        assert hidden not in page.source
        assert hidden not in json.dumps(page.data)
    for there in (
        "https://...@host/x",
        "https://host/x?a=1&token=...&b=2",
        "s3://...@bucket/x",
        "max_prompt_tokens = ",
    ):
        assert there in page.text


def test_a_rewards_name_is_no_secret_and_its_weight_counts(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(rewards={"correctness": 3.0}), tmp_path / "run")
    recipe = run.path / "recipe.toml"
    recipe.write_text(
        re.sub(r"\[rewards\]\n([a-z_]+ = .*\n)*", "[rewards]\ntoken = 3.0\nsecret = 1.0\n", recipe.read_text())
    )
    run.append("completions.jsonl", [drawn("x") | {"rewards": {"token_reward": 1.0, "secret_reward": 1.0}}])
    assert Page(write_report(run)).data["completions"]["reward"] == [4.0]


def test_one_problem_is_solved_or_not_and_has_no_share(run: Run) -> None:
    side = {"accuracy": 0.0, "ci95": [0.0, 0.79], "lenient_accuracy": 0.0, "rewards": {}}
    evaluation = {"task": "drawing", "n": 1, "before": side, "after": {**side, "accuracy": 1.0}, "step": 7}
    ends = ((True, "Solved</b> in step 7, by one of its sampled"), (False, "Not solved"), (None, "Its one problem"))
    for solved, says in ends:
        given = {**evaluation, "solved": solved} if solved is not None else evaluation
        page = write_report(run, given).read_text().rpartition("<nav>")[2].partition('<script type="text/plain"')[0]
        assert says in page
        told = "answered without sampling: wrong before the training, right after the training."
        assert told in " ".join(page.split())
        assert "McNemar" not in page
        assert ("olved" in page.split("Its one problem")[0].rpartition("What it learnt")[2]) == (solved is not None)
