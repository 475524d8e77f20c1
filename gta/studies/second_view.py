"""The second-view table: does an encoder that sees images alone add to transduction, and does its gain stack with attributes and adapt?

A second encoder joins the mixture and the graph (`gta.transduct`). No text is compared with its features, and it is never trained. Each
method is run with one view and with two:

    TransCLIP            one transduction from the texts of the baseline: the names, or the first attributes where a name says nothing
    GTA-CLIP, no adapt   attributes, questions about confused pairs, transduction; both encoders stay as they are
    GTA-CLIP             the whole method

A row of two views is compared with the same method with one view. The gain stacks if GTA-CLIP with two views is above both GTA-CLIP and
TransCLIP with two views.
"""

from typing import Any, Self

from pydantic import Field, model_validator

from gta.state import Result
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.study import Key, Study

TWO_VIEWS, NO_ADAPT = "two views", "no adapt"
GTA_CLIP: dict[str, dict[str, Any]] = {"": {}, NO_ADAPT: {"adapt": False}}  # variants with one view, and what they change in the settings
ONE_VIEW: dict[str, Any] = {"view": None}  # of `gta.loop.run`, in place of the study's


class SecondView(RunParameters):
    """Parameters of `notebooks/second_view.ipynb`."""

    draws: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _has_a_view(self) -> Self:
        if not self.view:
            raise ValueError("view: name the second encoder, such as vit_small_patch14_dinov2.lvd142m; embedded, for the embedded datasets")
        return self


def with_two(variant: str) -> str:
    """The name of a variant with two views."""
    return f"{TWO_VIEWS}, {variant}" if variant else TWO_VIEWS


def second_view(study: Study) -> dict[str, Result]:
    """CLIP, and each method with one view and with two, into `study.outcomes`. Returns the runs of GTA-CLIP by variant."""
    transclip = f"Trans{study.task.baseline}"
    once = study.run(study.first_texts, changes=ONCE, **ONE_VIEW)
    study.outcomes[study.baseline] = (once.clip, once.history[0]["seconds_encode"], study.baseline)
    study.add(transclip, "", once)
    study.add(transclip, TWO_VIEWS, study.run(study.first_texts, changes=ONCE), (transclip, ""))
    runs = {}
    for variant, changes in GTA_CLIP.items():
        one: Key = ("GTA-CLIP", variant)
        runs[variant] = study.run_draws(*one, study.static, study.llm, changes=changes, **ONE_VIEW)
        two = with_two(variant)
        runs[two] = study.run_draws("GTA-CLIP", two, study.static, study.llm, baseline=one, changes=changes)
    return runs
