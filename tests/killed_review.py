"""A review that kills itself: it takes over a filled round and learns from it, and dies by SIGKILL at its event number `at`."""

import os
import signal
from pathlib import Path

import torch

from gta import loop
from gta.__main__ import main
from gta.label import answers, folder, review


def work(home: Path, at: int | None) -> None:
    """Run `review --read`. Before and after answers, stages, files and the end of the round `home/events` gets a line."""
    torch.set_num_threads(1)
    count = [0]

    def event(name: str) -> None:
        with open(home / "events", "a", encoding="utf-8") as stream:
            stream.write(f"{name}\n")
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(name, function):
        def call(*arguments, **options):
            told = f"{name} {next((Path(a).name for a in arguments if isinstance(a, Path)), '')}".strip()
            event(f"before {told}")
            found = function(*arguments, **options)
            event(f"after {told}")
            return found

        return call

    answers.append = around("answers", answers.append)
    folder.write_atomically = around("write", folder.write_atomically)
    loop._Method.once = around("stage", loop._Method.once)
    review._forget = around("forget", review._forget)
    review.Review.done = around("done", review.Review.done)
    raise SystemExit(main(["review", str(home / "out"), "--reviewer", "ann", "--read", str(home / "round.csv")]))
