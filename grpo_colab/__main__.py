"""`python -m grpo_colab`, which is what torchrun starts."""

import os
import sys

# Python has put the folder where one stands first: a file there would take the place of any library from now on
if sys.path[:1] in ([""], [os.getcwd()]):  # noqa: PTH109 - pathlib is not imported yet
    del sys.path[0]

from grpo_colab.cli import main

if __name__ == "__main__":
    main()
