"""A run folder: what a run leaves behind, how it is read, resumed and copied."""
