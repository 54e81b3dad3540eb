"""The base of every document that the journal keeps."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen, closed document of the journal; a new field needs a default: old journals load."""

    model_config = ConfigDict(frozen=True, extra="forbid")
