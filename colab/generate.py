"""Generate the notebooks from their sources, and write the repository's address wherever it is used.

    python colab/generate.py            write the files
    python colab/generate.py --check    change nothing; print what would change, and exit with status 1 if anything

The sources are those of NOTEBOOKS, such as colab/grpo_gsm8k.py, in jupytext's percent format. The address is
`[project.urls] Repository` in pyproject.toml. It is written into the notebooks, the installer and the README's badges.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

# A notebook's name, and the accelerator that Colab should offer for it.
NOTEBOOKS = {
    "grpo_gsm8k": "GPU",
    "your_own_data": None,
    "reward_workshop": None,
    "drawing_grpo_vs_her": None,
    "explore_gsm8k": None,
}
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
README = """<!-- generated: colab -->
- [![Train]({badge})]({colab}/colab/grpo_gsm8k.ipynb) Train and evaluate in one click: Llama-3.1-8B with a GPU, the
  small model without one.
- [![Your data]({badge})]({colab}/colab/your_own_data.ipynb) From a file of yours to a trained model, with a reward of
  your own. Without a file or a GPU it runs on a sample.
- [![Rewards]({badge})]({colab}/colab/reward_workshop.ipynb) Write a reward, audit it, and train with it. No GPU needed.
- [![Draw]({badge})]({colab}/colab/drawing_grpo_vs_her.ipynb) Teach a model to draw one image, with GRPO and with
  hindsight. No GPU needed.
- [![Explore]({badge})]({colab}/colab/explore_gsm8k.ipynb) Look at GSM8K, at a run, and at what it learnt.

In any other notebook, also on Kaggle:

```ipython
!curl -sSfL --max-time 60 -o install.py {raw}/colab/install.py
%run install.py
```
<!-- end -->"""


def generated(root: Path) -> dict[str, str]:
    """Return the content of every generated file, by its path below `root`."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project["urls"]["Repository"].rstrip("/")
    name = urlsplit(repository).path.strip("/")
    places = {
        "{REPOSITORY}": repository,
        "{RAW}": f"https://raw.githubusercontent.com/{name}/main",
        "{COLAB}": f"https://colab.research.google.com/github/{name}/blob/main",
    }
    files = {
        f"colab/{name}.ipynb": notebook(root / "colab" / f"{name}.py", gpu, places) for name, gpu in NOTEBOOKS.items()
    }
    badges = README.format(badge=BADGE, colab=places["{COLAB}"], raw=places["{RAW}"])
    readme = (root / "README.md").read_text(encoding="utf-8")
    if "<!-- generated: colab -->" not in readme:
        readme += f"\n## Colab\n\n{badges}\n"
    files["README.md"] = re.sub(r"<!-- generated: colab -->.*?<!-- end -->", lambda _: badges, readme, flags=re.DOTALL)
    installer = root / "colab" / "install.py"
    if installer.is_file():
        line = f'REPOSITORY = "{repository}"'
        files["colab/install.py"] = re.sub(r'(?m)^REPOSITORY = ".*"', line, installer.read_text(encoding="utf-8"))
    return files


def notebook(source: Path, accelerator: str | None, places: dict[str, str]) -> str:
    """Return the text of the .ipynb of a percent file.

    It has no outputs, and nothing that depends on the day or on jupytext's version.
    """
    import jupytext
    import nbformat

    text = source.read_text(encoding="utf-8")
    for place, value in places.items():
        text = text.replace(place, value)
    text = text[text.index("# %%") :]  # the head is for readers of the source, and for ruff
    book = jupytext.reads(text, fmt="py:percent")
    for number, cell in enumerate(book.cells):
        cell.id = f"{source.stem}-{number}".replace("_", "-")
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "cellView"}
    book.metadata = {
        "accelerator": accelerator,
        "colab": {"name": f"{source.stem}.ipynb", "provenance": []},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if accelerator is None:
        del book.metadata["accelerator"]
    book.nbformat, book.nbformat_minor = 4, 5
    return nbformat.writes(book) + "\n"


def write_or_check(files: Mapping[str, str], root: Path, check: bool) -> bool:
    """Write the files below `root` whose content differs, or with `check` print how it does. Return whether any did."""
    changed = False
    for name, text in files.items():
        path = root / name
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text == before:
            continue
        changed = True
        if check:
            lines = (before.splitlines(keepends=True), text.splitlines(keepends=True))
            sys.stdout.writelines(difflib.unified_diff(*lines, f"{name} (is)", f"{name} (should be)"))
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return changed


def main(arguments: list[str], root: Path) -> int:
    """Write the files below `root`, or with --check compare them; return the exit status."""
    check = "--check" in arguments
    return int(write_or_check(generated(root), root, check) and check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).parents[1]))
