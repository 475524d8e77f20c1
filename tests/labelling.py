"""What tests of a labelled folder share: `python -m gta label` in a process that runs already, and the lines of a CSV."""

import csv

from gta.__main__ import main


def rows(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def command(*words):
    """The exit code of `python -m gta` with these words."""
    return main([str(word) for word in words])


def label(home, *more, images="images", classes="classes.txt", out="out", encoder="embedded", iterations=1):
    """The exit code of `label` with names in the folder `home`."""
    given = ["--classes", home / classes, "--encoder", encoder, "--out", home / out, "--iterations", iterations]
    return command("label", home / images, *given, *more)
