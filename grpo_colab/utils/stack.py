"""Import the training stack in the order that Unsloth needs: the only file that imports `unsloth`.

Unsloth rewrites parts of trl, transformers and peft, which works only when it is imported before them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.utils import files
from grpo_colab.utils.device import lowest_capability

PREFIX_GROUPER: Final = "UNSLOTH_GRPO_PREFIX_GROUPER"
MUST_COME_AFTER_UNSLOTH: Final = ("trl", "transformers", "peft")


def import_unsloth() -> Any:
    """Import unsloth, which patches trl, transformers and peft, and return the module.

    Before that, UNSLOTH_COMPILE_LOCATION is set to a folder in the user's cache unless it has a value, noisy loggers
    are quieted, and what a GPU like the T4 cannot compile is left out. Raises SettingError when unsloth is not
    installed, and when it is too late to import it: see `check_import_order`. Raises ModuleNotFoundError when a library
    that unsloth needs is missing.
    """
    check_import_order()
    # Unsloth writes compiled code into this folder and imports it from there. Its default is a folder in the current
    # one, which would come before all libraries on the path.
    cache = files.expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "grpo_colab" / "unsloth_compiled_cache"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache))
    leave_out_what_cannot_compile()
    # On a CPU these warn at every import, and a person can do nothing about it.
    for name in ("torch.utils._pytree", "torchao.kernel.intmm", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        import unsloth
    except ModuleNotFoundError as error:
        if error.name != "unsloth":
            raise
        raise SettingError(
            "unsloth is not installed", remedy="run `pip install grpo_colab[train]`, or `make setup`"
        ) from None
    return unsloth


def leave_out_what_cannot_compile() -> None:
    """Switch off, by PREFIX_GROUPER in the environment, what Unsloth cannot compile for a GPU such as the T4.

    Below compute capability 8.0 its attention over the shared prompts of a group asks for more shared memory than a
    block has, 96 of 64 KiB. It would be compiled in vain at every step. A value that is set already stays.
    """
    if PREFIX_GROUPER not in os.environ and (lowest_capability() or (8, 0)) < (8, 0):
        os.environ[PREFIX_GROUPER] = "0"


def check_import_order() -> None:
    """Raise SettingError when trl, transformers or peft was imported before unsloth, which can then no longer patch it.

    Once unsloth itself is imported, nothing is raised.
    """
    early = imported_early()
    if early and "unsloth" not in sys.modules:
        raise SettingError(
            f"{', '.join(early)} was imported before unsloth, which can no longer patch it",
            remedy="put `import unsloth` first in your script, or restart the notebook's runtime and call grpo_colab "
            "first",
        )


def import_transformers() -> Any:
    """Import transformers and return the module, after unsloth if this process may train later.

    Unsloth is imported first where it is installed, unless trl, transformers or peft is imported already. A process
    that does not train, such as `grpo-colab plan`, imports transformers itself before, which saves the ten seconds that
    Unsloth takes. Two noisy loggers are quieted. Raises SettingError when transformers is not installed, and as
    `import_unsloth` does.
    """
    if importlib.util.find_spec("unsloth") and not imported_early():
        import_unsloth()
    # transformers imports these to build a model.
    for noisy in ("torchao", "torch.utils._pytree"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        import transformers
    except ModuleNotFoundError:
        raise SettingError(
            "transformers is not installed, and the models' shapes are read with it",
            remedy="run `pip install grpo_colab[train]`",
        ) from None
    return transformers


def imported_early() -> list[str]:
    """Return the libraries that unsloth must precede and that are imported already."""
    return [name for name in MUST_COME_AFTER_UNSLOTH if name in sys.modules]
