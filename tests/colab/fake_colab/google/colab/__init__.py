"""What Colab's kernels have as `google.colab`, as far as notebooks use it, for kernels that are not Colab's.

Its folder is `$FAKE_COLAB`: `secrets.json` (name -> value, null where the notebook has no access), `drive/` (what the
user keeps there), and `calls.jsonl`, which gets a line for each call. Written after the interface of
github.com/googlecolab/colabtools; `google` is a namespace package here as there.
"""

from google.colab import drive, errors, files, output, runtime, userdata

__all__ = ["drive", "errors", "files", "output", "runtime", "userdata"]
