"""Check before a run whether a recipe can be trained on this machine."""
