"""Held-out accuracy before and after training, and the scoring of completions from a file."""
