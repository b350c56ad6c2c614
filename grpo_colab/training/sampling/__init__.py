"""Choose what a step practises, and what it learns from: the settings of [sampling]. Plain Python, without torch.

    prompts     which problems are practised: those that the policy gets right about half of the time
    forecast    how often a problem will come out right, learnt from what is known of it
    groups      what was sampled of a problem, whether it teaches anything, and which completions teach the most
    hints       the first steps of a solution, for problems that nobody solved
    practice    the state of it all, step by step, as a checkpoint keeps it

`trainer_sampling.py` puts them into TRL's trainer.
"""

from grpo_colab.training.sampling.groups import Group, Sample, widest
from grpo_colab.training.sampling.hints import HintedRows, Index, steps_shown
from grpo_colab.training.sampling.practice import Practice
from grpo_colab.training.sampling.prompts import PromptSampler

__all__ = ["Group", "HintedRows", "Index", "Practice", "PromptSampler", "Sample", "steps_shown", "widest"]
