"""The child: `python -m grpo_colab.mirror RUN DESTINATION WAIT`."""

import sys

from grpo_colab.mirror.mirror import main

sys.exit(main(sys.argv[1:]))
