from __future__ import annotations

from typing import Any

from google.colab._place import called


def clear(wait: bool = False, output_tags: object = ()) -> None:
    called("output.clear")


def eval_js(script: str, ignore_result: bool = False, timeout_sec: float | None = None) -> Any:
    called("output.eval_js", script=script)


def enable_custom_widget_manager() -> None:
    called("output.enable_custom_widget_manager")
