"""How a language model is asked: what each request carries, how many are open at once, and how long one may take."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator
from yaml import YAMLError

from gta.files import yaml_of
from gta.settings import Checked

OWN = ("model", "messages", "response_format", "stream", "n")  # what a request is made of; no parameter of sampling


class Sampling(Checked):
    """Parameters of the requests. One that is None is not sent, for an endpoint that refuses it.

    max_tokens: of an answer, so that a model that repeats itself without end stops; temperature, top_p, seed: as the OpenAI protocol
    names them; extra: further ones by the endpoint's own names, such as `{"repetition_penalty": 1.1}`; concurrency: requests that are
    open at once; timeout: seconds without a byte after which a request is sent again; patience: seconds that a server may not be ready
    (503), as while it loads its model. A text is read as YAML.

    An endpoint that refuses a default by name, such as temperature 0, is asked without it, and one that wants `max_completion_tokens`
    gets that; what was chosen here is sent or the run stops. `{max_tokens: null, extra: {max_completion_tokens: 4000}}` says it at once.
    """

    max_tokens: int | None = Field(1000, ge=1)
    temperature: float | None = Field(0.0, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    concurrency: int = Field(8, ge=1)
    timeout: float = Field(600.0, gt=0, allow_inf_nan=False)
    patience: float = Field(300.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, values: Any) -> Any:
        """What a command line gives: a text, or a mapping to texts."""
        try:
            values = yaml_of(values) if isinstance(values, str) else values
            if isinstance(values, Mapping):
                return {name: yaml_of(value) if isinstance(value, str) else value for name, value in values.items()}
        except YAMLError:
            pass
        if isinstance(values, cls):
            return values.model_dump()
        raise ValueError(f"{values!r} holds no names with values; write it as {{temperature: 0.7, max_tokens: 500}}")

    @field_validator("extra")
    @classmethod
    def _not_again(cls, extra: dict[str, Any]) -> dict[str, Any]:
        for name in extra:
            if name in cls.model_fields:
                raise ValueError(f"{name!r} stands beside `extra`, not in it")
            if name in OWN:
                raise ValueError(f"{name!r} is set by the program for every request")
        return extra

    @property
    def request(self) -> dict[str, Any]:
        """What each request carries: a part of the name of its answer in the ledger."""
        own = {name: getattr(self, name) for name in ("max_tokens", "temperature", "top_p", "seed")}
        return {**{name: value for name, value in own.items() if value is not None}, **self.extra}


DEFAULT = Sampling().request


def identity(model: str, request: Mapping[str, Any]) -> str:
    """The name of a model with what its requests carry other than by default: other answers, other runs."""
    names = sorted(name for name in {*request, *DEFAULT} if request.get(name) != DEFAULT.get(name))
    return ", ".join([model, *(f"{name}={request.get(name)}" for name in names)])
