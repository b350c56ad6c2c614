"""The small models that the CPU presets train, and the code that makes them: `python -m grpo_colab.tiny --help`."""
