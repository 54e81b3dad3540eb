"""The base of every model that crosses a network: frozen, closed, snake_case."""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

NUMBER_MAX: Final = 2**53 - 1
"""Largest number that every JSON reader keeps exactly."""

RAISED_MAX: Final = 2**52
"""Largest fence or epoch that is told: whoever raises his own above it stays below NUMBER_MAX."""

Number = Annotated[int, Field(ge=0, le=NUMBER_MAX)]
Raised = Annotated[int, Field(ge=0, le=RAISED_MAX)]
Name = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""What records are found by: no database keeps the character NUL in a key."""

Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9000, 1, 1, tzinfo=UTC)),
]
"""A time with its zone, far enough from both ends of the calendar to be reckoned with."""


class WireModel(BaseModel):
    """An immutable message; an unknown field is refused, so that nothing crosses unannounced."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64")
