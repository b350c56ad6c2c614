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

MUST_COME_AFTER_UNSLOTH: Final = ("trl", "transformers", "peft")


def import_unsloth() -> Any:
    """Import unsloth, and return the module.

    Raises SettingError where it is not installed, and where it is too late: see `check_import_order`.
    """
    check_import_order()
    # Unsloth compiles code into this folder and imports it from there. By default that is a folder where the user
    # stands, which would come before all libraries.
    cache = files.expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "grpo_colab" / "unsloth_compiled_cache"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache))
    # These warn at every import where there is no triton, about what a person can do nothing about.
    for name in ("torch.utils._pytree", "torchao.kernel.intmm"):
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


def check_import_order() -> None:
    """Raise SettingError when a library was imported before unsloth, which can then no longer patch it."""
    early = _imported_early()
    if early and "unsloth" not in sys.modules:
        raise SettingError(
            f"{', '.join(early)} was imported before unsloth, which can no longer patch it",
            remedy="put `import unsloth` first in your script, or restart the notebook's runtime and call grpo_colab "
            "first",
        )


def import_transformers() -> Any:
    """Import transformers, and return the module; unsloth comes first where this process may train later.

    A process that does not train, such as the command line's `plan`, imports transformers itself beforehand and so
    saves the ten seconds that Unsloth takes. Raises SettingError where transformers is not installed.
    """
    if importlib.util.find_spec("unsloth") and not _imported_early():
        import_unsloth()
    for noisy in ("torchao", "torch.utils._pytree"):  # which transformers imports to build a model
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        import transformers
    except ModuleNotFoundError:
        raise SettingError(
            "transformers is not installed, and the models' shapes are read with it",
            remedy="run `pip install grpo_colab[train]`",
        ) from None
    return transformers


def _imported_early() -> list[str]:
    return [name for name in MUST_COME_AFTER_UNSLOTH if name in sys.modules]
