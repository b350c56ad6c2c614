"""Check whether the recipe fits this machine, by the plan that `grpo-colab plan` prints and `train` follows.

Only the plan judges that, so that the three say the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from grpo_colab.doctor import limits
from grpo_colab.doctor.findings import Answer, Probe, broken, ok, run, warning
from grpo_colab.doctor.network import is_cached
from grpo_colab.plan import CannotEstimate, plan
from grpo_colab.plan.model_shape import must_be_built, shipped
from grpo_colab.text import duration

LONG_S: Final = 24 * 3600.0  # on a CPU, a run that takes longer is worth a warning
OTHER_DEVICE: Final = (
    "in Colab: Runtime > Change runtime type > T4 GPU (or better); or train a recipe for the CPU: gsm8k-tiny"
)
# Gets the recipe as TOML, and prints its plan as JSON, or the reason why it has none. It is a process of its own, since
# it imports transformers.
ASK: Final = """
import json, sys
import transformers
from grpo_colab.plan import CannotEstimate, plan
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils.toml_reading import parse_toml

try:
    print(json.dumps(plan(Recipe.model_validate(parse_toml(sys.argv[1]))).as_dict()))
except CannotEstimate as error:
    print(json.dumps(str(error)))
"""


def check_fit(probe: Probe) -> Answer:
    """Look whether the recipe fits this machine's device, and how long it takes there.

    The state is broken where the plan says that it does not fit: `train` then refuses it. It is a warning where it is
    tight, and where it takes more than LONG_S on a CPU. It is ok where there is no plan, since `train` then goes on.
    Nothing is downloaded.
    """
    if probe.recipe is None:
        return ok("no recipe to plan")
    if not hasattr(probe.torch, "__version__") or (probe.cards and not probe.cuda):
        return ok("not known before torch can use the device")
    if probe.hub_name and not (shipped(probe.hub_name) or is_cached(probe.hub_name)):
        return ok("not known before the model's config.json is here: `grpo-colab plan` downloads it")
    try:
        found = _asked(probe) if must_be_built(probe.recipe) else plan(probe.recipe).as_dict()
    except CannotEstimate as error:
        found = str(error)
    except (subprocess.SubprocessError, OSError):
        found = "transformers does not build the model here"
    if isinstance(found, str):
        return ok(f"not known: {found}")
    return _judged(found)


def _asked(probe: Probe) -> dict[str, Any] | str:
    """Return the recipe's plan as a dict, or the reason why it has none, from a process that imports transformers.

    Raises SubprocessError for a process that fails or takes longer than its limit, and OSError where it cannot start.
    """
    assert probe.recipe is not None
    printed = run(limits.TEMPLATE_S, sys.executable, "-P", "-c", ASK, probe.recipe.to_toml())
    return json.loads(printed.strip().splitlines()[-1])


def _judged(planned: dict[str, Any]) -> Answer:
    """Return the answer for a plan, as `Plan.as_dict` gives it."""
    gib = 2**30
    found = f"about {planned['bytes'] / gib:.1f} of {planned['memory'] / gib:.1f} GiB of {planned['device']}"
    on_cpu = planned["kind"] == "cpu"
    if planned["fits"] == "no":
        changes = [*planned["advice"], OTHER_DEVICE] if on_cpu else planned["advice"]
        return broken(f"does not fit: {found}", "; or ".join(changes))
    if planned["fits"] == "tight":
        return warning(f"is tight: {found}", "; or ".join(planned["advice"]))
    seconds = 3600 * planned["hours"]
    found += f", about {duration(seconds)}"
    if on_cpu and seconds > LONG_S:
        return warning(found, OTHER_DEVICE)
    return ok(found)
