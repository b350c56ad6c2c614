"""Keep the adapter's precision in the trainer, which TRL changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trl import GRPOTrainer as Trainer  # the mixin's `super()`, once it is mixed in
else:
    Trainer = object


class PrecisionMixin(Trainer):
    """Train the adapter in the precision that it was loaded in.

    TRL rounds the adapter of a quantised model to bfloat16, whose eight bits lose most changes of a step. A run that
    is resumed loads it in float32 again, so that it would go on otherwise than it began. The trainer that Unsloth
    writes for a GPU does not round; without a GPU it is TRL's own.
    """

    def __init__(self, model: Any, **arguments: Any) -> None:
        trained = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
        super().__init__(model=model, **arguments)
        for parameter, data in trained:
            parameter.data = data
