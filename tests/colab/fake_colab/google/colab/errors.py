class Error(Exception):
    """Of all of Colab's own errors."""


class RuntimeManagementError(Error):
    pass
