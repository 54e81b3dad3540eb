"""The base of every model that crosses a network: frozen, closed, snake_case."""

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """An immutable message; an unknown field is refused, so that nothing crosses unannounced."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64")
