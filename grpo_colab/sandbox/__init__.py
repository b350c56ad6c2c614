"""Run programs that a model wrote, in processes that cannot harm this machine.

from grpo_colab.sandbox import Sandbox
Sandbox().run(["print(1 + 1)"])
"""

from grpo_colab.sandbox.code_blocks import python_code
from grpo_colab.sandbox.sandbox import Exam, Outcome, Sandbox

__all__ = ["Exam", "Outcome", "Sandbox", "python_code"]
