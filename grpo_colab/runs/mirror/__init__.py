"""A run's copy elsewhere, in a folder (Drive, say) or a model repository on the hub, kept by a child process.

    <destination>/<the run folder's name>/      laid out as the run folder, and
        mirrored.json                           whose copy it is, and how far it goes

A file system or a hub that hangs holds up the child, never the run: `Mirror` starts it, looks after it and tries again.
The child is `python -m grpo_colab.runs.mirror RUN DESTINATION WAIT`. Standard library only at import, for it is started
often.
"""

from grpo_colab.runs.mirror.hub import hub_problem, hub_trouble
from grpo_colab.runs.mirror.layout import HUB, IDENTITY, MARKER, STATE, identity, parse_hub
from grpo_colab.runs.mirror.mirror import BUSY, FAILED, PATIENCE_S, Mirror, main, push
from grpo_colab.runs.mirror.restore import check_free, find, is_mirror, marker, recipes, restore

__all__ = [
    "BUSY",
    "FAILED",
    "HUB",
    "IDENTITY",
    "MARKER",
    "PATIENCE_S",
    "STATE",
    "Mirror",
    "check_free",
    "find",
    "hub_problem",
    "hub_trouble",
    "identity",
    "is_mirror",
    "main",
    "marker",
    "parse_hub",
    "push",
    "recipes",
    "restore",
]
