"""The small model that the CPU default trains, and how it is made: `python -m grpo_colab.tiny --help`."""

from pathlib import Path

TINY_MODEL: Path = Path(__file__).parent / "word-problems"
"""The shipped model's folder: weights, tokenizer and card, to be loaded like any Hugging Face model."""
