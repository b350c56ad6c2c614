"""Keep a copy of a run elsewhere: in a folder (such as Drive) or in a model repository on the hub.

    <destination>/<the run folder's name>/      laid out as the run folder, but for checkpoints in a folder (slots.py)
        mirrored.json                           which run it is a copy of, how far it goes, and its files

A child process does the copying, so that a file system or a hub that hangs never holds up the run. `Mirror` starts the
child, watches it and retries. The child is `python -m grpo_colab.runs.mirror RUN DESTINATION WAIT`. It is started
often, so only the standard library is imported at import.
"""

from grpo_colab.runs.mirror.hub_files import hub_problem
from grpo_colab.runs.mirror.layout import HUB, MARKER, STATE, identity
from grpo_colab.runs.mirror.lookup import check_free, find, is_mirror, marker, recipes
from grpo_colab.runs.mirror.mirror import BUSY, FAILED, PATIENCE_S, Mirror, main, push
from grpo_colab.runs.mirror.restore import restore

__all__ = [
    "BUSY",
    "FAILED",
    "HUB",
    "MARKER",
    "PATIENCE_S",
    "STATE",
    "Mirror",
    "check_free",
    "find",
    "hub_problem",
    "identity",
    "is_mirror",
    "main",
    "marker",
    "push",
    "recipes",
    "restore",
]
