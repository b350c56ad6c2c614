"""Recipes: what to run. Their tables, how they are read, and which settings are refused before any download."""
