"""Define the errors that end a run early. They are here because who catches them may not have imported torch yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grpo_colab.errors import SettingError


class PretrainingStopped(SettingError):
    """A signal ended the pre-training before its last step."""


class Tripped(SettingError):
    """A tripwire stopped the run. `record` is what tripwire.json holds.

    Its `last_good_step` is the last step whose weights are known to be good. It may be before the last checkpoint: the
    samples of a step come from the weights before that step, so a checkpoint may hold weights that were already bad.
    """

    def __init__(self, problem: str, record: Mapping[str, Any], **fields: Any) -> None:
        """Keep the record. `fields` are SettingError's: setting, value, remedy, place."""
        super().__init__(problem, **fields)
        self.record = record
