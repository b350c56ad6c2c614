"""docs/reference.md is what the code says, and `make lint` fails when it is not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from grpo_colab import Recipe, rewards
from grpo_colab.cli import cli
from grpo_colab.recipe import library_signatures
from grpo_colab.recipe.recipe import preset_names
from grpo_colab.recipe.schema import Budget
from grpo_colab.tasks import TASKS

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "colab" / "reference.py"
STORED = ROOT / "docs" / "reference.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the stored file where the script looks for it."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "reference.md").write_bytes(STORED.read_bytes())
    return tmp_path


def test_the_stored_file_is_what_the_code_says_and_no_heavy_library_is_needed() -> None:
    code = (
        f"import runpy, sys\nsys.argv = ['reference.py', '--check']\n"
        f"try:\n    runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as ended:\n    status = ended.code\n"
        "print([name for name in ('torch', 'transformers', 'trl', 'unsloth', 'numpy') if name in sys.modules])\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "[]\n"


def test_a_text_that_changes_in_the_code_makes_the_file_stale(
    script: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--check"], checkout) == 0
    monkeypatch.setattr(Budget.model_fields["max_steps"], "description", "another description")
    assert script.main(["--check"], checkout) == 1
    said = capsys.readouterr().out
    assert "another description" in said
    assert "python colab/reference.py" in said
    assert (checkout / "docs" / "reference.md").read_bytes() == STORED.read_bytes()  # a check writes nothing
    assert script.main([], checkout) == 0
    assert script.main(["--check"], checkout) == 0
    assert "another description" in (checkout / "docs" / "reference.md").read_text(encoding="utf-8")


def test_a_file_that_was_changed_by_hand_or_is_missing_is_stale(script: ModuleType, checkout: Path) -> None:
    stored = checkout / "docs" / "reference.md"
    stored.write_text(STORED.read_text(encoding="utf-8").replace("## Exit status", "## Exit codes"), encoding="utf-8")
    assert script.main(["--check"], checkout) == 1
    stored.unlink()
    assert script.main(["--check"], checkout) == 1


def test_it_is_the_same_where_no_training_library_is_installed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_signatures, "_package_folder", lambda package: None)
    library_signatures.accepted_arguments.cache_clear()
    library_signatures.known_values.cache_clear()
    try:
        assert script.reference() == STORED.read_text(encoding="utf-8")
    finally:
        library_signatures.accepted_arguments.cache_clear()
        library_signatures.known_values.cache_clear()


def test_nothing_is_left_out() -> None:
    text = STORED.read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        section = text.partition(f"### grpo-colab {name}\n")[2].partition("\n### ")[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"  {option}" in section or f", {option}" in section, (name, option)
    for table, field in Recipe.model_fields.items():
        if table in ("name", "description"):
            continue
        section = text.partition(f"### [{table}]\n")[2].partition("\n### ")[0]
        assert section, table
        kinds = [field.annotation, *get_args(field.annotation)]
        for setting in (setting for kind in kinds for setting in getattr(kind, "model_fields", {})):
            assert f"| `{setting}` |" in section, (table, setting)
    listed = text.partition("## Rewards\n")[2]
    for name in rewards.__all__:
        if name.endswith("_reward") and name not in ("call_reward", "resolve_reward"):
            short = name.removeprefix("get_").removesuffix("_reward")
            assert f"| `{short}` |" in listed, name
    assert all(f"| `{name}`" in text.partition("## Presets\n")[2] for name in preset_names())
    assert all(f"### {name}\n" in text.partition("## Tasks\n")[2] for name in TASKS)
