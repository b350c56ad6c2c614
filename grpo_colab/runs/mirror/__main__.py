"""Run the child process of a mirror: `python -m grpo_colab.runs.mirror RUN DESTINATION WAIT`."""

import sys

from grpo_colab.runs.mirror.mirror import main

sys.exit(main(sys.argv[1:]))
