"""The small model that the CPU default trains, and how it is made: `python -m grpo_colab.tiny --help`."""
