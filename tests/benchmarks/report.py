"""What a report costs: seconds to write and to open, and megabytes, of a synthetic run of 250 steps x 8 completions.

    python tests/benchmarks/report.py [--rounds 5] [RUN ...]

Each completion has 768 tokens of random words, which are as often as words are in a language. "Drawn" is when a real
Chromium, just started, has drawn what is seen, from when it was told to open the file; "CPU" is what the page's process
took for that, for the other charts and for the lists. Other run folders can be named instead, and are not written to.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from grpo_colab import Recipe, Run
from grpo_colab.reporting import report
from grpo_colab.utils.files import append, lines

STEPS, GROUP, WORDS = 250, 8, 590  # so many words of English are about 768 tokens
SETTLED = 6  # seconds after which a page has drawn everything


def synthetic(path: Path) -> Run:
    """A run that has all that GRPO writes, with completions that compress no better than English does."""
    rng = random.Random(0)
    letters = "etaoinshrdlcumwfgypbvk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20_000)]
    often = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))  # Zipf's law

    def said(count: int) -> str:
        return " ".join(rng.choices(words, cum_weights=often, k=count))

    run = Run.create(Recipe.load(budget={"max_steps": STEPS}), path)
    keys = ["loss", "grad_norm", "entropy", "kl", "step_time", "reward_std", "completions/mean_length"]
    keys += ["frac_reward_zero_std", "learning_rate"]
    keys += [f"rewards/part_{n}/mean" for n in range(5)] + [f"verdict/{one}" for one in ("right", "wrong", "no_tag")]
    for step in range(1, STEPS + 1):
        row = {key: rng.random() for key in keys} | {"step": step, "reward": rng.random()}
        append(run.path / "metrics.jsonl", lines([row]))
        prompt = [{"role": "user", "content": said(60)}]
        completions = [
            {
                "step": step,
                "group": 0,
                "prompt": prompt,
                "completion": said(WORDS) + f" <answer>{rng.randint(0, 3)}</answer>",
                "answer": "1",
                "rewards": {f"part_{n}": rng.random() for n in range(5)},
                "advantage": rng.random(),
            }
            for _ in range(GROUP)
        ]
        append(run.path / "completions.jsonl", lines(completions))
    return run


def opened(page: Path, rounds: int) -> tuple[float, float]:
    """Seconds until what is seen is drawn, by the page's own mark, and of CPU till all is there; medians.

    Nothing is attached to the browser while it draws: an inspector has V8 read plotly.js three times more.
    """
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    took, cpu = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [program, "--headless", "--no-sandbox", "--remote-debugging-port=0", "--window-size=1200,900"]
            browser = subprocess.Popen(
                [*command, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.PIPE, text=True
            )
            assert browser.stderr
            listens = next(line for line in browser.stderr if "listening on ws://" in line).split("ws://")[1]
            address = f"http://{listens.partition('/')[0]}"
            urllib.request.urlopen(urllib.request.Request(f"{address}/json/new?{page.as_uri()}", method="PUT")).close()
            time.sleep(SETTLED)
            with sync_playwright() as playwright:
                (context,) = playwright.chromium.connect_over_cdp(address).contexts
                (tab,) = [one for one in context.pages if one.url == page.as_uri()]
                asked = context.new_cdp_session(tab)
                mark = {"expression": 'performance.getEntriesByName("drawn")[0].startTime'}
                took.append(asked.send("Runtime.evaluate", mark)["result"]["value"] / 1000)
                asked.send("Performance.enable")
                metrics = {one["name"]: one["value"] for one in asked.send("Performance.getMetrics")["metrics"]}
                cpu.append(metrics["ProcessTime"])
            browser.kill()
            browser.communicate()
    return statistics.median(took), statistics.median(cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("runs", nargs="*", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for path in asked.runs or [synthetic(Path(folder) / "run").path]:
            began, cpu = time.perf_counter(), time.process_time()
            page = report([path], Path(folder) / "report.html").resolve()
            wrote = f"{time.perf_counter() - began:.2f} s ({time.process_time() - cpu:.2f} s of CPU)"
            drawn, busy = opened(page, asked.rounds)
            size = page.stat().st_size / 1e6
            print(f"{path.name}: {size:.2f} MB, written in {wrote}, drawn in {drawn:.2f} s ({busy:.2f} s of CPU)")


if __name__ == "__main__":
    sys.exit(main())
