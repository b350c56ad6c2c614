"""From nothing to a first run on data of one's own: `starter` writes the folder, from the samples beside it."""

from grpo_colab.starter.starter import KINDS, Starter, write_starter

__all__ = ["KINDS", "Starter", "write_starter"]
