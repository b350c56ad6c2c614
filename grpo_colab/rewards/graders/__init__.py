"""Judge answers of every kind: `make_grader(answer="choice")` returns the grader of a kind, with its settings.

`grader` has the base class, which finds the answer in a completion and lets a kind judge it. The kinds are `numbers`
(number and math), `texts` (text), `choices` (choice), `json_values` (json), `programs` (code), and `own`, which calls a
function of the user's. `settings` makes and checks them. To add a kind, write a class with its `kind`, and enter it in
`KINDS` there.
"""

from __future__ import annotations

from grpo_colab.rewards.graders.grader import Grader
from grpo_colab.rewards.graders.settings import KINDS, grader_settings, lenient_words, make_grader

__all__ = ["KINDS", "Grader", "grader_settings", "lenient_words", "make_grader"]
