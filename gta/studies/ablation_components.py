"""The ablation of the components: attributes none, static or dynamic, with and without transduction, with and without adaptation.

    attributes   none: the template alone; static: what the language model says of each class at first; dynamic: those, and then
                 the answers about confused pairs of every iteration
    transduct    off: z is the text prior, CLIP's own answer, and the confused pairs and confident images are those of the prior
    adapt        off: both encoders stay as they are

All twelve cells are valid. Where nothing is asked and nothing is adapted, all iterations are the same one, so that one is run; these four
cells are CLIP and TransCLIP, without and with attributes. Dynamic with both is the whole method.
"""

from typing import Any, Literal, get_args

from pydantic import Field

from gta.attributes import Bank
from gta.state import Result
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.study import Key, Study

Attributes = Literal["none", "static", "dynamic"]
ATTRIBUTES: tuple[Attributes, ...] = get_args(Attributes)
Cell = tuple[Attributes, bool, bool]  # attributes, transduct, adapt
STEPS = ((False, False), (False, True), (True, False), (True, True))  # transduct, adapt


class Components(RunParameters):
    """Parameters of `notebooks/ablation_components.ipynb`. kind: of the attributes whose four cells are run."""

    draws: int = Field(1, ge=1)
    kind: Attributes


def name(cell: Cell) -> Key:
    """Method and variant of a cell, by the names that the other tables give it."""
    attributes, transduct, adapt = cell
    if not adapt and attributes != "dynamic":
        return ("TransCLIP" if transduct else "CLIP") + ("+attributes" if attributes == "static" else ""), ""
    lacks = {"none": "no attributes", "static": "no generate", "dynamic": ""}[attributes]
    return "GTA-CLIP", ", ".join(filter(None, (lacks, "" if transduct else "no transduct", "" if adapt else "no adapt")))


def compared_with(cell: Cell) -> Cell:
    """The cell with one component less: without adaptation, else without transduction, else with the attributes of the row above."""
    attributes, transduct, adapt = cell
    if adapt:
        return attributes, transduct, False
    if transduct:
        return attributes, False, False
    return ATTRIBUTES[max(0, ATTRIBUTES.index(attributes) - 1)], False, False


def components(study: Study, attributes: Attributes) -> dict[tuple[bool, bool], Result]:
    """The four cells of a row into `study.outcomes`, with those of the rows above that cost one transduction, to compare with.

    Returns the runs that adapt or ask, by (transduct, adapt).
    """
    for above in ATTRIBUTES[: ATTRIBUTES.index(attributes) + 1]:
        if above != "dynamic":
            _once(study, above)
    runs = {}
    for transduct, adapt in STEPS:
        cell = (attributes, transduct, adapt)
        if name(cell) not in study.outcomes:
            changes = {"generate": attributes == "dynamic", "transduct": transduct, "adapt": adapt}
            llm = study.llm if attributes == "dynamic" else None
            given: dict[str, Any] = {"baseline": name(compared_with(cell)), "changes": changes}
            runs[transduct, adapt] = study.run_draws(*name(cell), _bank(study, attributes), llm, **given)
    return runs


def _once(study: Study, attributes: Attributes) -> None:
    """The two cells that neither ask nor adapt, of one transduction: its prior and its answer."""
    result = study.run(_bank(study, attributes), changes=ONCE)
    prior, answer = (attributes, False, False), (attributes, True, False)
    study.outcomes[name(prior)] = (result.clip, result.history[0]["seconds_encode"], name(compared_with(prior)))
    study.add(*name(answer), result, name(compared_with(answer)))


def _bank(study: Study, attributes: Attributes) -> Bank:
    return study.names_only if attributes == "none" else study.static
