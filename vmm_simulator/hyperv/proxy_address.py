"""A host's own HTTP proxy; pure."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


class ProxyAddress(BaseModel):
    """An HTTP proxy, by address: a host does not ask anybody for its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Annotated[str, Field(max_length=45), AfterValidator(_address)]
    port: int = Field(ge=1, le=65_535)
