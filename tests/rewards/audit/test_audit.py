"""The audit: it passes our own rewards, and names what is wrong with graders that are in use and with broken ones."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import rewards
from grpo_colab.rewards import grade, resolve_reward
from grpo_colab.rewards.audit import Audit, audit, judge, worker
from grpo_colab.rewards.audit.battery import Battery

graders = sys.modules[resolve_reward(f"{Path(__file__).with_name('graders.py')}:careful_reward").__module__]
BATTERY = Battery("answer")
PROGRAMS = Battery("answer", "code").data["code"]
TAGGED = [style for style in BATTERY.styles if "</answer>" in style["answer"][1]]


@cache
def audited(name: str) -> Audit:
    """The audit of a fixture. A hang costs these seconds; what ends must do so in them on the busiest machine."""
    return audit(getattr(graders, name), time_limit_s=3)


def names(found: Audit, what: str) -> set[str]:
    return {finding.case for finding in found.findings if finding.what == what}


def whats(found: Audit) -> set[str]:
    return {finding.what for finding in found.findings}


# The battery.


def test_the_battery_is_large_and_has_megabytes() -> None:
    cheats, right = (BATTERY.cases(which, TAGGED[0], False) for which in ("cheat", "right"))
    assert len({case.name for case in cheats}) == len(cheats) == len(BATTERY.data["cheat"]) >= 60
    assert len({case.name for case in right}) == len(right) == len(BATTERY.data["right"]) >= 30
    assert sum(len(case.text) > 900_000 for case in cheats) >= 10
    assert len({case.gold for case in cheats}) == len({case.gold for case in right}) == 5


@pytest.mark.parametrize("style", TAGGED, ids=lambda style: style["name"])
def test_the_battery_agrees_with_the_grader(style) -> None:
    """No false accept and no false reject: what a right answer is, the parser says."""
    assert [c.name for c in BATTERY.cases("cheat", style, False) if grade(c.text, c.gold).right] == []
    assert [c.name for c in BATTERY.cases("right", style, False) if not grade(c.text, c.gold).right] == []


def test_what_is_written_out() -> None:
    style = BATTERY.styles[0]
    cases = {case.name: case for which in ("cheat", "right") for case in BATTERY.cases(which, style, False)}
    why = "She sells 16 - 3 - 4 = 9 eggs.\nAt $2 each that is 9 * 2 = 18."
    assert cases["dollars"].text == f"<reasoning>\n{why}\n</reasoning>\n<answer>\n$18\n</answer>"
    assert cases["tags without line breaks"].text == f"<reasoning>{why}</reasoning><answer>18</answer>"
    assert cases["a hundred reasoning tags"].text.startswith("<reasoning>\n" * 100)
    assert cases["the column looked up"].text.endswith("<answer>\nkwargs['answer'][0]\n</answer>")
    assert cases["a list of both"].text.count("[") == 1
    assert not any(mark in case.text for case in cases.values() for mark in ("[gold]", "[wrong]", "[why]", "[many]"))
    boxed = {case.name: case for case in BATTERY.cases("cheat", BATTERY.styles[4], False)}
    assert "unclosed answer" not in boxed  # a \boxed{ has no tag
    assert boxed["minus"].text == why + "\n\\boxed{-18}"


# Our own.

OURS = [
    (rewards.correctness_reward, "correctness", "<reasoning> and <answer>"),
    (rewards.exact_answer_reward, "exact", "<reasoning> and <answer>"),
    (rewards.soft_correctness_reward, "first_number", "<reasoning> and <answer>"),
    (rewards.integer_reward, "answer_format", "<reasoning> and <answer>"),
    (rewards.strict_format_reward, "format", "<reasoning> and <answer>"),
    (rewards.soft_format_reward, "format", "<reasoning> and <answer>"),
    (rewards.tag_count_reward, "tag_count", "<reasoning> and <answer>"),
    (rewards.think_format_reward, "format", "<think>, then the answer"),
    (rewards.get_think_format_reward(prefilled=True), "format", "</think>, then the answer"),
    (rewards.get_strict_format_reward("think"), "format", "<think> and <answer>"),
    (rewards.get_soft_format_reward("think"), "format", "<think> and <answer>"),
    (rewards.get_tag_count_reward("think"), "tag_count", "<think> and <answer>"),
    (rewards.length_reward, "scaled", "<reasoning> and <answer>"),
    (rewards.get_cosine_scaled_reward(max_len=512), "scaled", "<reasoning> and <answer>"),
    (rewards.get_correctness_reward(answer_in="boxed"), "correctness", "\\boxed{}"),
    (rewards.get_correctness_reward(answer_in="hash"), "correctness", "####"),
    (rewards.get_correctness_reward(answer_in="SOLUTION"), "correctness", "<reasoning> and <SOLUTION>"),
    (rewards.get_length_reward(answer_in="boxed"), "scaled", "\\boxed{}"),
    (rewards.get_repetition_penalty_reward(), "shaping", "any"),
    (rewards.get_soft_overlong_punishment_reward(512, 128), "shaping", "any"),
    (rewards.reasoning_steps_reward, "shaping", "any"),
    (
        rewards.combine([rewards.correctness_reward, rewards.strict_format_reward], weights=[1.0, 0.2]),
        "correctness",
        "<reasoning> and <answer>",
    ),
]


@pytest.mark.parametrize(("function", "kind", "style"), OURS, ids=lambda value: getattr(value, "__name__", None))
def test_our_own_pass(function, kind: str, style: str) -> None:
    found = audit(function, time_limit_s=5)
    assert str(found).endswith("\nok")
    assert found.ok and (found.kind, found.style) == (kind, style)
    parts = {"deterministic", "independent of the order", "blind to other columns", "picklable", "thread-safe"}
    assert {*found.held} >= parts | {"the same for messages and strings"}
    assert found.asked > 150 and found.slowest[0] > 0


# Rewards for programs.


def test_our_reward_for_programs_pays_no_program_that_only_says_so() -> None:
    found = audit(rewards.get_code_reward(workers=1), time_limit_s=5)
    assert str(found).endswith("\nok")
    assert found.ok and found.kind == "code" and found.notes == []
    assert found.asked == len(PROGRAMS["shape"]) * len(PROGRAMS["program"]) >= 60
    assert {*found.held} >= {"deterministic", "independent of the batch", "blind to other columns", "picklable"}


@pytest.mark.parametrize("name", ["exec_reward", "exec_text_reward"])
def test_a_reward_that_runs_tests_beside_the_program_is_found_out(name: str) -> None:
    found = audited(name)
    cheated = names(found, "pays, and should not")
    assert found.kind == "code" and not found.ok
    assert {
        f"an object that equals all, for {shape}" for shape in ("an assertion", "a loop", "check(candidate)")
    } <= cheated
    assert "built-ins that say yes, for a sorted list" in cheated
    assert not any(case.startswith(("right", "wrong", "nothing", "an exit")) for case in cheated)
    assert "does not pay, and should" not in whats(found)


def test_what_a_kind_tolerates_is_said() -> None:
    exact, first = audit(rewards.exact_answer_reward), audit(rewards.soft_correctness_reward)
    assert all(name.startswith("not paying for") for name in exact.tolerated)
    assert {"not paying for no comma", "not paying for dollars"} <= {*exact.tolerated}
    assert {"the bare gold", "gold or wrong", "not the gold"} <= {*first.tolerated}
    # What is right strictly is right softly, an equation too.
    assert not any(name.startswith("not paying for") for name in first.tolerated)
    assert "as the kind exact allows" in str(exact) and "not paying for dollars" in str(exact)
    assert audit(rewards.correctness_reward).tolerated == audit(rewards.strict_format_reward).tolerated == []


def test_only_our_own_are_tolerated() -> None:
    def soft_correctness_reward(completions, answer, **kwargs):
        return rewards.soft_correctness_reward(completions, answer)

    found = audit(soft_correctness_reward)
    assert found.kind == "correctness"
    assert "gold or wrong" in names(found, "pays, and should not")
    assert "does not pay, and should" not in whats(found)
    assert "not picklable" in whats(found)
    assert whats(audit(soft_correctness_reward, kind="first_number")) == {"not picklable"}


# Graders that are in use.

LAST = "the bare gold|unclosed answer|all numbers|wrong or gold|not the gold|a list of both"
IN_USE = [
    (
        "last_in_text_reward",
        f"{LAST}|the gold after the answer|the gold in the reasoning only",
        "a fraction|an exponent",
    ),
    ("last_in_tag_reward", f"{LAST}|a hundred opening tags|two answers, the gold last", "a fraction|an exponent"),
    ("lm_eval_strict_reward", "gold or wrong|two answers, the gold first|a condition", "dollars|no comma|bold"),
    ("lm_eval_flexible_reward", f"{LAST}|the gold after the answer|nested answers", "decimals|a fraction"),
    ("verl_strict_reward", "two answers, the gold last|gold or wrong|commas anywhere", "dollars|bold|decimals"),
    ("verl_flexible_reward", f"{LAST}|the gold after the answer|minus in words", "decimals|a fraction"),
    ("brevity_reward", "the bare gold|the gold after the answer|unclosed answer|wrong or gold", "a fraction"),
    ("leaking_reward", "the column's name|the column's name as the answer|the gold in JSON", ""),
    ("swallowing_reward", "empty|no idea|a wrong number word|the column's name as the answer|all numbers", ""),
    ("evaluating_reward", "hexadecimal|a sum left to do|an underscore between digits", "dollars|a unit"),
]


@pytest.mark.parametrize(("grader", "pays", "misses"), IN_USE, ids=[grader for grader, _, _ in IN_USE])
def test_defects_of_graders_in_use(grader: str, pays: str, misses: str) -> None:
    found = audited(grader)
    assert not found.ok
    assert found.kind == ("scaled" if grader == "brevity_reward" else "correctness")
    assert found.style == ("####" if "strict" in grader else "<reasoning> and <answer>")
    assert {*pays.split("|")} <= names(found, "pays, and should not")
    assert {*misses.split("|")} - {""} <= names(found, "does not pay, and should")


def test_all_that_the_notebook_pays() -> None:
    found = audit(graders.notebook_reward, "number", time_limit_s=3)
    assert names(found, "pays, and should not") == {
        "the bare gold",
        "unclosed answer",
        "two answers, the gold last",
        "a hundred answers, the gold last",
        "a hundred opening tags",
        "a hundred closing tags",
        "nested answers",
    }
    assert {"dollars", "no comma", "bold", "decimals"} <= names(found, "does not pay, and should")
    assert whats(found) == {"pays, and should not", "does not pay, and should"}
    assert "  blocks repeated or nested (5): two answers, the gold last, 2.0 of 2: " in str(found)
    assert "    a hundred closing tags, 2.0 of 2: " in found.text(every=True)
    assert len(str(found).splitlines()) < 20 < len(found.text(every=True).splitlines())


@pytest.mark.parametrize("name", ["notebook_soft_format_reward", "dotall_soft_format_reward"])
def test_soft_formats_of_regular_expressions(name: str) -> None:
    found = audited(name)
    assert found.kind == "format"
    assert ("pays no blocks of several lines" in whats(found)) is name.startswith("notebook")
    paid = {"empty blocks", "two answers, the gold last", "a hundred opening tags", "the whole completion twice"}
    assert paid <= names(found, "pays, and should not")
    assert names(found, "breaks") == {"a megabyte of blocks that never end"}
    assert "did not end within 3 s" in str(found)


math_verify = pytest.mark.skipif(not importlib.util.find_spec("math_verify"), reason="needs math-verify")


@pytest.mark.long
@math_verify
def test_math_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "MOST_HANGS", 2)  # each costs another import of sympy, too
    found = audited("math_verify_reward")
    pays = {"the bare gold", "unclosed answer", "gold or wrong", "not the gold", "a hundred opening tags"}
    assert pays <= names(found, "pays, and should not")
    assert {"a tower of powers, as mathematics"} <= names(found, "breaks")
    assert "not thread-safe" in whats(found)


@pytest.mark.long
@math_verify
def test_the_reward_of_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl")
    monkeypatch.setattr(judge, "MOST_HANGS", 2)
    from trl.rewards import accuracy_reward

    found = audit(accuracy_reward, time_limit_s=3)
    assert (found.kind, found.style) == ("correctness", "\\boxed{}")
    assert {"euros", "an exponent"} <= names(found, "does not pay, and should")
    assert {"a tower of powers", "a tower of powers, as mathematics"} <= names(found, "breaks")
    assert {"deterministic", "picklable"} <= {*found.held}


@math_verify
def test_our_own_with_math_verify() -> None:
    latex = pytest.importorskip("grpo_colab.rewards.latex")
    found = audit(latex.math_reward, time_limit_s=5)
    assert str(found).endswith("\nok")
    assert (found.kind, found.tolerated) == ("expression", ["a sum left to do"])
    for function, kind in (
        (rewards.get_math_reward(answer_in="boxed"), "expression"),
        (rewards.get_cosine_scaled_reward(512, grader="math", answer_in="hash"), "scaled_expression"),
    ):
        found = audit(function, time_limit_s=5)
        assert str(found).endswith("\nok") and found.kind == kind


# Broken contracts.

BROKEN = [
    ("careful_reward", set()),
    ("chatty_reward", set()),
    ("patient_reward", set()),
    ("solved_reward", set()),
    ("strings_reward", set()),
    ("tail_reward", set()),
    ("first_come_reward", {"not independent of the order", "not independent of the batch"}),
    ("main_thread_reward", {"not thread-safe"}),
    ("curious_reward", {"not blind to other columns"}),
    ("writing_reward", {"not careful with its input"}),
    ("short_list_reward", {"breaks when asked about all at once"}),
    ("nan_reward", {"breaks"}),
    ("raising_reward", {"breaks", "pays, and should not"}),  # float() reads 1_8 and 1８
    ("dying_reward", {"breaks"}),
    ("narrow_reward", {"TRL cannot call it"}),
]


@pytest.mark.parametrize(("name", "what"), BROKEN, ids=[name for name, _ in BROKEN])
def test_the_contract(name: str, what: set[str]) -> None:
    assert whats(audited(name)) == what


def test_what_a_broken_one_is_told() -> None:
    assert {"an underscore between digits", "digits of two scripts"} <= names(
        audited("raising_reward"), "pays, and should not"
    )
    assert {"empty", "a wrong number word", "dollars"} <= names(audited("raising_reward"), "breaks")
    assert {"empty", "a million letters"} <= names(audited("nan_reward"), "breaks")
    assert "raised ValueError: signal only works in main thread" in str(audited("main_thread_reward"))
    assert "gave 1 reward for" in str(audited("short_list_reward"))
    assert "writes to completions" in str(audited("writing_reward"))
    assert "add **kwargs to its parameters" in str(audited("narrow_reward"))
    assert "takes strings only" in str(audited("strings_reward"))
    dead = audited("dying_reward")
    assert [(f.case, f.seen.partition(":")[0]) for f in dead.findings] == [
        ("not a number", "ended the process, with exit code -9")
    ]
    code = audited("evaluating_reward")
    assert {"code that ends the process", "code that never ends"} <= names(code, "breaks")


def test_chance_closures_and_shared_state() -> None:
    assert "not deterministic" in whats(audited("random_reward"))
    assert whats(audit(graders.make_closure_reward())) == {"not picklable"}
    assert whats(audit(graders.SharedReward())) == {"not thread-safe"}
    assert whats(audit(lambda completions, answer, **kwargs: rewards.correctness_reward(completions, answer))) == {
        "not picklable"
    }


def test_a_reward_that_never_looks_at_the_gold() -> None:
    found = audited("any_answer_reward")
    assert "pays no golden completion more" in whats(found)
    assert {"a wrong answer to 18", "the column's name"} <= names(found, "pays, and should not")


def test_a_slow_function_is_asked_about_a_few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SLOW_S", 0.01)
    found = audit(graders.slow_random_reward)
    assert {"not deterministic"} <= whats(found)
    assert "deterministic" not in found.held


def test_other_names_for_the_gold_and_a_column_of_questions() -> None:
    def own_reward(completions, question, ground_truth=None, **kwargs):
        assert all(len(text) > 20 for text in question)
        return rewards.correctness_reward(completions, ground_truth)

    found = audit(own_reward)
    assert (whats(found), found.kind) == ({"not picklable"}, "correctness")

    def rare_reward(completions, **kwargs):
        return rewards.correctness_reward(completions, kwargs["facit"])

    assert "fails on a golden completion" in whats(audit(rare_reward))
    assert whats(audit(rare_reward, answer_column="facit")) == {"not picklable"}


def test_the_tags_of_unsloths_notebooks() -> None:
    def solution_reward(completions, answer, **kwargs):
        said = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        tagged = [text.replace("<SOLUTION>", "<answer>").replace("</SOLUTION>", "</answer>") for text in said]
        return rewards.correctness_reward(tagged, answer)

    found = audit(solution_reward)
    assert (found.kind, found.style) == ("correctness", "<reasoning> and <answer>")  # it pays that one, too
    assert audit(rewards.get_tag_count_reward("thinking")).ok


def test_a_conversation_with_a_tool_is_told_as_a_note() -> None:
    def first_message_reward(completions, answer, **kwargs):
        return rewards.correctness_reward([c[0]["content"] if isinstance(c, list) else c for c in completions], answer)

    notes = " ".join(audit(first_message_reward).notes)
    assert "fails when a tool was called before the answer (content None)" in notes
    assert "tool" not in " ".join(audit(rewards.correctness_reward).notes)


def test_a_kind_that_it_is_not() -> None:
    assert "pays no golden completion more" in whats(audit(graders.tail_reward, kind="format"))
    assert "pays no golden completion more" in whats(audit(graders.tail_reward, kind="correctness"))
    assert audit(rewards.correctness_reward, kind="shaping").ok


# Safety.


def test_hangs_are_bounded_and_leave_nothing_behind(tmp_path: Path) -> None:
    def reward(completions, answer, **kwargs):
        texts = [completion[0]["content"] for completion in completions]
        if not all("<answer>" in text or "\\boxed" in text for text in texts):
            child = subprocess.Popen(["sleep", "3600"])
            (tmp_path / str(child.pid)).touch()
            child.wait()
        return rewards.correctness_reward(completions, answer)

    start = time.monotonic()
    found = audit(reward, time_limit_s=0.2)
    assert time.monotonic() - start < 60
    assert len(names(found, "breaks")) == judge.MOST_HANGS
    assert "empty" in names(found, "breaks")
    assert any("stopped after" in note for note in found.notes)
    assert "not picklable" in whats(found)  # what was answered is still asked about
    assert multiprocessing.active_children() == []
    started = [int(path.name) for path in tmp_path.iterdir()]
    assert len(started) >= judge.MOST_HANGS
    assert not any(Path(f"/proc/{pid}/cmdline").exists() and _command(pid) == "sleep" for pid in started)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]  # empty for a process that has ended


def test_one_that_always_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WARM_UP_S", 2.0)
    start = time.monotonic()
    found = audit(graders.hung_reward)
    assert whats(found) == {"fails on a golden completion"}
    assert "did not end within 2 s" in str(found)
    assert found.asked == 0
    assert time.monotonic() - start < 16  # of eight styles, not 2 s for each


def test_what_it_prints_is_not_in_the_way(capfd: pytest.CaptureFixture[str]) -> None:
    assert audit(graders.chatty_reward).ok
    assert capfd.readouterr() == ("", "")


def test_from_another_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(audit, rewards.correctness_reward).result().ok


def test_the_worker_ends_with_its_parent() -> None:
    code = (
        "import os, signal\nfrom grpo_colab import rewards\nfrom grpo_colab.rewards.audit.battery import Battery\n"
        "from grpo_colab.rewards.audit.worker import Data, Worker\nbattery = Battery('answer')\n"
        "case = battery.case('golden', battery.styles[0])\n"
        "worker = Worker(rewards.correctness_reward, Data(), [case])\n"
        "print(worker.ask([case], 9).rewards, worker._process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    rewarded, pid = done.stdout.split()
    assert rewarded == "[1.0]"
    for _ in range(100):
        if not Path(f"/proc/{pid}/cmdline").exists() or not _command(int(pid)):
            return
        time.sleep(0.1)
    os.kill(int(pid), 9)
    pytest.fail("the worker outlived its parent")


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("kind", "corectness", "did you mean 'correctness'? There are: number, math, correctness, "),
        ("time_limit_s", 0, "write a number of seconds above 0"),
        ("time_limit_s", float("inf"), "write a number of seconds above 0"),
    ],
)
def test_bad_settings(setting: str, value: object, remedy: str) -> None:
    with refused(setting, value, remedy=remedy):
        audit(rewards.correctness_reward, **{setting: value})


def test_no_limit_is_no_number() -> None:
    with refused("time_limit_s", remedy="write a number of seconds above 0"):
        audit(rewards.correctness_reward, time_limit_s=float("nan"))
