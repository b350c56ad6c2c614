"""`python -m grpo_colab`, which is what torchrun starts."""

from grpo_colab.cli import main

if __name__ == "__main__":
    main()
