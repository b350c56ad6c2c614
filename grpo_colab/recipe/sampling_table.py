"""Check [sampling] beside the settings of [grpo] and [budget] that it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.recipe.schema import Budget, Sampling, own_table

# Settings of [grpo] by which a completion without an advantage has a gradient all the same.
LEARNS_FROM_ALL: Final = ("beta", "entropy_coef", "use_adaptive_entropy", "router_aux_loss_coef")


def checked_sampling(table: Mapping[str, Any], grpo: Mapping[str, Any], budget: Budget) -> Sampling:
    """Return the table [sampling]. Raise SettingError for a setting that cannot work beside [grpo] and [budget]."""
    sampling = own_table(Sampling, "sampling", table)
    if sampling.prior and sampling.strategy != "adaptive":
        remedy = 'write sampling.strategy = "adaptive", or take it out'
        raise SettingError("is for another strategy", setting="sampling.prior", value=sampling.prior, remedy=remedy)
    group = grpo["num_generations"]
    more = sampling.generate_more
    if isinstance(more, int) and more and (more < group or more % group):
        raise SettingError(
            f"is no multiple of grpo.num_generations = {group}",
            setting="sampling.generate_more",
            value=more,
            remedy=f"write {2 * group}, for instance, or 0 to sample no more than these",
        )
    if sampling.hints != "none" and budget.stop_at_reward is not None:
        raise SettingError(
            f"does not go with budget.stop_at_reward = {budget.stop_at_reward:g}: a completion with a hint would end "
            "the run as solved",
            setting="sampling.hints",
            value=sampling.hints,
            remedy='write "none", or take budget.stop_at_reward out',
        )
    if sampling.skip_zero_advantage:
        needing = [key for key in LEARNS_FROM_ALL if grpo.get(key)]
        if grpo.get("top_entropy_quantile", 1.0) < 1.0:  # of the tokens of all completions
            needing.append("top_entropy_quantile")
        if needing:
            key = needing[0]
            raise SettingError(
                f"does not go with grpo.{key} = {grpo[key]}, which needs the other completions, too",
                setting="sampling.skip_zero_advantage",
                value=True,
                remedy=f"write false, or take grpo.{key} out",
            )
    return sampling
