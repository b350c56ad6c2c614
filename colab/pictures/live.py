"""Draw live.png, the live table as it looked at one step of a finished run: `python colab/pictures/live.py RUN [STEP]`.

Needs Chromium.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from grpo_colab import Run
from grpo_colab.reporting.curves import series
from grpo_colab.reporting.live import painted
from grpo_colab.reporting.run_progress import WINDOW, RunProgress


def main(folder: str, step: str = "40") -> None:
    """Write live.png beside this file."""
    run = Run(folder)
    progress = RunProgress(run, int(step), run.recipe.budget.max_steps, ())
    progress.pace.extend(series(progress.rows[-WINDOW:], "step_time"))
    console = Console(
        record=True, width=74, height=24, force_terminal=True, color_system="truecolor", file=io.StringIO()
    )
    console.print(painted(progress, console), end="")
    svg = console.export_svg(title="grpo-colab train", theme=MONOKAI)
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # the fonts would be fetched from a server
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch, "live.html")
        page.write_text(f"<body style='margin: 0; background: #292929'>{svg}</body>", encoding="utf-8")
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={scratch}/browser"),
                *(
                    f"--window-size={round(width)},{round(height)}",
                    f"--screenshot={Path(__file__).with_suffix('.png')}",
                ),
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
