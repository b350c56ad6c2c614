"""The task `jsonl`: another name of the task `dataset`, from when JSON lines were the only format."""

from __future__ import annotations

from grpo_colab.tasks.dataset import Dataset


class JSONL(Dataset):
    """Problems of your own: the former name of the task `dataset`, with the same settings and formats."""

    name = "jsonl"
