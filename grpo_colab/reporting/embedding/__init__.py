"""See the data: a task's problems as points, on a map and in the TensorFlow Embedding Projector."""

from grpo_colab.reporting.embedding.embedding import Embedding, embed
from grpo_colab.reporting.embedding.screen import embed_text

__all__ = ["Embedding", "embed", "embed_text"]
