"""Rows, one measurement each, and their files. Nothing here needs torch: tables and figures are read in a second."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError, field_validator, model_validator

from gta.files import write_atomically
from gta.settings import Checked

TABLE_KEY = ["table", "dataset", "backbone", "method", "variant", "shots", "seed", "draw", "preset"]


class Row(Checked):
    """One measurement.

    n_total: the images that count; an image does not count if its class is not among the given names. gain: accuracy minus that of
    the row `baseline` of the same run, in points, with its 95 % paired bootstrap interval over images. seconds: the time of the
    method, with encoding. Few-shot methods and peers share the features of one encoding; their seconds do not include it.
    draw: which of several draws of images, views and texts the method adapted with; a method that draws nothing has draw 0. preset: as in
    `gta.released.presets`. oracle_best: the accuracy of the best of all transductions of the run, chosen with test labels, as the released
    program reports it: in no headline, and None for a method without iterations. ties: images with two classes that are equally likely, of
    which the first counts. ece: in %, and brier: as in `gta.scores.calibration`, of the images that count; None where z is no distribution.
    Of labels without doubt, whose z is 0 or 1, ece is the share of wrong ones. empty: classes that no image is labelled as; largest: the
    share of all images in the largest class, in %. These two need no labels. All four are None in rows from before they were measured.
    """

    run_id: str
    table: str
    dataset: str
    backbone: str
    method: str
    variant: str = ""
    shots: int = Field(0, ge=0)
    seed: int = Field(ge=0)
    draw: int = Field(0, ge=0)
    preset: str = ""
    n_correct: int = Field(ge=0)
    n_total: int = Field(ge=1)
    accuracy: float
    oracle_best: float | None = None
    baseline: str
    gain: float
    gain_low: float
    gain_high: float
    seconds: float = Field(ge=0)
    ties: int = Field(0, ge=0)
    ece: float | None = Field(None, ge=0, le=100)
    brier: float | None = Field(None, ge=0)
    empty: int | None = Field(None, ge=0)
    largest: float | None = Field(None, ge=0, le=100)
    device: str
    versions: str
    weights: str
    llm: str = ""  # the language model and a hash of its questions
    source_hash: str
    status: str = "done"

    def __str__(self) -> str:
        name = ", ".join(filter(None, (self.method, self.variant)))
        gain = f"{self.gain:+5.1f} [{self.gain_low:+.1f}, {self.gain_high:+.1f}] over {self.baseline}"
        told = f"; no image in {self.empty} classes, {self.largest:.0f} % in one" if self.empty else ""
        return f"{name:45} {self.accuracy:5.1f} %   {gain}{told}"

    @field_validator("oracle_best", "ece", "brier", "empty", "largest", mode="before")
    @classmethod
    def _nothing_is_none(cls, value):
        return None if value == "" else value

    @model_validator(mode="after")
    def _accuracy_is_the_ratio(self):
        if abs(self.accuracy - 100 * self.n_correct / self.n_total) > 0.005:
            raise ValueError(f"accuracy {self.accuracy} is not 100 * {self.n_correct} / {self.n_total}")
        return self


def paired_gain(right: np.ndarray, baseline: np.ndarray) -> tuple[float, float, float]:
    """Difference in accuracy, in points, and its 95 % percentile interval by paired bootstrap over images.

    right, baseline: bool (N,) on the same images. 10,000 resamples with a fixed seed.
    """
    difference = 100 * (right.astype(float) - baseline.astype(float))
    if np.ptp(difference) == 0:
        return float(difference[0]), float(difference[0]), float(difference[0])
    # A resample of N paired differences in {-100, 0, 100} is a multinomial draw of their three counts.
    values, counts = np.unique(difference, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(difference), counts / len(difference), size=10_000) @ values / len(difference)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)


def oracle_best(iterates: Sequence[Row]) -> Row:
    """The iterate with the most correct labels, the first one among equals. The released program reports this iterate.

    The choice needs the true labels. So it is an upper bound on what a better stopping rule could give, not a result of the method.
    """
    return max(iterates, key=lambda row: row.n_correct)


def write_run(folder: Path, rows: Iterable[Row], predictions: Mapping[str, np.ndarray]) -> None:
    """Write `predictions.npz`, then `rows.csv`. Each file is complete or absent, and rows never exist without their predictions."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **predictions)
    write_atomically(Path(folder) / "predictions.npz", buffer.getvalue())
    write_table(Path(folder) / "rows.csv", rows)


def write_table(file: Path, rows: Iterable[Row]) -> None:
    """Write rows as a sorted CSV; equal rows are written once. Raises ValueError if two different rows have one run_id."""
    frame = pd.DataFrame([row.model_dump() for row in rows], columns=list(Row.model_fields)).drop_duplicates().sort_values(TABLE_KEY)
    frame["empty"] = frame["empty"].astype("Int64")  # a count stays one beside rows without it
    twice = frame[frame.duplicated("run_id")]
    if len(twice):
        raise ValueError(f"two different rows with run_id {twice.run_id.iloc[0]}: {file} would hold one measurement twice")
    write_atomically(file, frame.to_csv(index=False))


def read_table(file: Path) -> list[Row]:
    """Every row of a CSV, validated. Raises FileNotFoundError, or ValueError with the file, the line and the field."""
    if not Path(file).exists():
        raise FileNotFoundError(f"{file} does not exist: run the target that makes it, as `results/index.csv` lists it")
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    rows = []
    for line, record in enumerate(frame.to_dict("records"), start=2):
        try:
            rows.append(Row.model_validate(record))
        except ValidationError as error:
            raise ValueError(f"{file}, line {line}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
    return rows
