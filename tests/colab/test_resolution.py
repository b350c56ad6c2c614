"""Every row of the installer's matrix, resolved against Colab's own package lists; and the traps that it must see."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.errors import one_line

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import colab_resolve as resolve  # noqa: E402

sys.path.remove(str(HERE))

pytestmark = pytest.mark.skipif(
    not resolve.RUNTIMES.is_dir(), reason="Colab's package lists are not at shared/colab_runtimes beside the checkout"
)


# What a person would type, and what it does without a word of warning (status 0) on the newest GPU runtime: the
# packages that show it, and what the check must name.
TRAPS = {
    "the whole list as a constraint brings an unsloth of 2024": (
        ["unsloth", "trl", "--constraints={all}"],
        "gpu",
        lambda changes: changes["unsloth"][1].startswith("2024."),
        ("unsloth",),
    ),
    "--upgrade moves torch": (
        ["--upgrade", "unsloth==2026.10.9", "trl==1.15.0", "datasets==4.8.5", "--overrides={certifi}"],
        "gpu",
        lambda changes: changes["torch"][0] == "2.11.0+cu128" and changes["torch"][1] != "2.11.0+cu128",
        ("torch",),
    ),
    "a vllm without a version keeps a pinned torch and is an old one for CUDA 13": (
        ["vllm", "--constraints={torch}"],
        "gpu-vllm",
        lambda changes: "torch" not in changes and "nvidia-cutlass-dsl-libs-cu13" in changes,
        ("vllm", "nvidia-cutlass-dsl-libs-cu13"),
    ),
    "vllm 0.20 keeps torch and moves transformers back": (
        ["vllm==0.20.0", "--constraints={torch}"],
        "gpu-vllm",
        lambda changes: "torch" not in changes and changes["transformers"][1].startswith("4."),
        ("vllm", "transformers"),
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[resolve.Case, Any], dict[str, Any]]:
    """What each case and each trap resolves to; all at once, since they wait for the package index most of the time."""
    newest = resolve.fake_runtime(resolve.runtime("2026.08-gpu"), tmp_path_factory.mktemp("runtime") / "newest")
    try:
        resolve.INSTALL.plan(resolve.UV, str(newest), "tomli-w==1.2.0")
    except resolve.INSTALL.InstallError as error:
        pytest.skip(f"the package index cannot be reached: {one_line(error)}")
    lines = [f"{name}=={version}" for name, version in resolve.runtime("2026.08-gpu").items()]
    texts = {"all": "\n".join(lines), "torch": "torch==2.11.0+cu128", "certifi": "certifi"}
    folder = tmp_path_factory.mktemp("traps")
    for name, text in texts.items():
        (folder / name).write_text(text)

    def spring(arguments: list[str]) -> Any:
        given = [argument.format_map({name: folder / name for name in texts}) for argument in arguments]
        return resolve.INSTALL.plan(resolve.UV, str(newest), *given, *resolve.target("3.13"))

    with ThreadPoolExecutor(len(TRAPS)) as pool:
        trapped = pool.map(spring, [arguments for arguments, *_ in TRAPS.values()])
        return resolve.resolve_all(), dict(zip(TRAPS, trapped, strict=True))


@pytest.mark.long
@pytest.mark.parametrize("case", resolve.CASES, ids="-".join)
def test_the_resolution_is_the_committed_one(case: resolve.Case, answers: Any) -> None:
    committed, now, _ = answers[0][case]
    assert now == committed, (
        "what install.py brings to this runtime is no longer what was committed. Where that is meant: "
        f"python tests/colab/colab_resolve.py --write\n{resolve.difference(case, committed, now)}"
    )


@pytest.mark.long
@pytest.mark.parametrize("case", resolve.CASES, ids="-".join)
def test_the_installer_plans_what_is_committed_and_expects_it(case: resolve.Case, answers: Any) -> None:
    committed, _, planned = answers[0][case]
    row, expected = resolve.INSTALL.MATRIX[case[0]], resolve.changes_in(committed)
    assert resolve.INSTALL.surprises(row, expected) == []
    if case[0] == "gpu-vllm":  # the fake runtime's packages ask for nothing, so a few that theirs would move stay
        assert planned.items() <= expected.items()
        assert len(planned) > 100
    else:
        assert planned == expected


@pytest.mark.parametrize("case", resolve.CASES, ids="-".join)
def test_torch_and_numpy_stay_where_vllm_was_not_asked_for(case: resolve.Case) -> None:
    changes = resolve.changes_in(resolve.expected_path(case).read_text())
    row = resolve.INSTALL.MATRIX[case[0]]
    assert {name for name, (before, _) in changes.items() if before} <= row.brings.keys()
    assert not {"numpy", "torchvision"} & changes.keys() - ({"torchvision"} if "vllm" in row.exact else set())
    assert ("torch" in changes) == ("vllm" in row.exact)
    for name in row.exact:
        assert changes[name][1] in row.brings[name]


def test_what_is_brought_is_what_the_cpu_default_is_tested_with() -> None:
    """colab/lock-cpu.txt is what all other tests run; the notebook's versions of the same packages are these."""
    lines = (resolve.ROOT / "colab" / "lock-cpu.txt").read_text().splitlines()
    lock = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    locked = {resolve.INSTALL.canonical(name): version for name, version in lock.items()}
    common = resolve.INSTALL.MATRIX["cpu"].brings
    assert {name: versions for name, versions in common.items() if versions != (locked.get(name),)} == {}
    assert not set(resolve.INSTALL.MATRIX["cpu"].without) & locked.keys()


@pytest.mark.long
@pytest.mark.parametrize("trap", TRAPS)
def test_a_known_trap_is_a_surprise(trap: str, answers: Any) -> None:
    _, row, sprung, named = TRAPS[trap]
    assert sprung(answers[1][trap]), answers[1][trap]
    found = " ".join(resolve.INSTALL.surprises(resolve.INSTALL.MATRIX[row], answers[1][trap]))
    for package in named:
        assert f"{package} " in found


def test_the_vllm_of_2023_is_a_surprise() -> None:
    """Where sources may be built, a vllm without a version goes back as far as 0.1.2; install.py builds none."""
    (found,) = resolve.INSTALL.surprises(resolve.INSTALL.MATRIX["gpu-vllm"], {"vllm": (None, "0.1.2")})
    assert "vllm (absent) -> 0.1.2" in found
    assert "0.31.0" in found
