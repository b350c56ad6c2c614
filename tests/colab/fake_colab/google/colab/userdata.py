from __future__ import annotations

import json

from google.colab._place import PLACE, called
from google.colab.errors import Error


class NotebookAccessError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(f"Notebook does not have access to secret {key}")


class SecretNotFoundError(Error):
    def __init__(self, key: str) -> None:
        super().__init__(f"Secret {key} does not exist.")


class TimeoutException(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(f"Requesting secret {key} timed out. Secrets can only be fetched from the Colab UI.")


def get(key: str) -> str:
    called("userdata.get", key=key)
    file = PLACE / "secrets.json"
    if not file.exists():  # nobody is at the browser
        raise TimeoutException(key)
    secrets = json.loads(file.read_text())
    if key not in secrets:
        raise SecretNotFoundError(key)
    if secrets[key] is None:
        raise NotebookAccessError(key)
    return secrets[key]
