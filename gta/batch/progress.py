"""What a person sees while a batch runs: a line for each step that was made, and how long the rest takes.

Each step is made by a process of its own. What it prints goes to its log; its line goes to the screen.
"""

import atexit
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "GTA_BATCH_PROGRESS"  # of the environment, which names the file of `begin`


def begin(steps: Mapping[str, tuple[str, float]]) -> str:
    """A temporary file that says when a batch began, and the marker and cost of each step that it will make; gone when it ends."""
    handle, name = tempfile.mkstemp(prefix="gta-batch-", suffix=".json")
    atexit.register(Path(name).unlink, missing_ok=True)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump({"begun": time.time(), "steps": steps}, file)
    return name


def line(name: str, seconds: float) -> str:
    """A line on a step that was made: its seconds, how many steps of the batch are made, and for about how long it still runs."""
    told = f"{name}  {seconds:.0f} s"
    file = Path(os.environ.get(VARIABLE, ""))
    batch = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"steps": {}}
    if name not in batch["steps"]:
        return told
    made = {step: cost for step, (marker, cost) in batch["steps"].items() if Path(marker).exists()}
    left = sum(cost for step, (_, cost) in batch["steps"].items() if step not in made)
    # What is made tells how fast it goes, at first beside the guess that each core does a minute's work a minute.
    minutes, guess = (time.time() - batch["begun"]) / 60, 2
    minutes = left * (minutes + guess) / (sum(made.values()) + guess * (os.cpu_count() or 1))
    soon = f"about {max(10, 10 * round(6 * minutes))} s left" if left else "done"
    until = f"about {minutes:.0f} min left" if minutes >= 1.5 else soon
    return f"{len(made):3} of {len(batch['steps'])}  {told}, {until}"


@contextmanager
def written_to(log: Path | None) -> Iterator[None]:
    """All that the process and its children print goes to the log; after an error its last lines are shown."""
    if log is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(1), os.dup(2)
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in enumerate(before, start=1):
            os.dup2(kept, number)
