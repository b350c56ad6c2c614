from __future__ import annotations

import json
import os
from pathlib import Path

PLACE = Path(os.environ["FAKE_COLAB"])


def called(what: str, **about: object) -> None:
    with (PLACE / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"call": what, **about}) + "\n")
