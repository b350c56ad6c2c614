from google.colab._place import called


def unassign() -> None:
    called("runtime.unassign")
