"""Whether the provider reaches the hub through a proxy; this version connects directly only."""

from typing import Final

from pydantic import field_validator

from service_shell.configuration import Settings

MODES_OFFERED: Final = ("none",)


class ProxySettings(Settings):
    """How to reach the hub; the environment's proxy variables are never looked at."""

    mode: str = "none"

    @field_validator("mode")
    @classmethod
    def _offered(cls, mode: str) -> str:
        if mode not in MODES_OFFERED:
            raise ValueError(
                f"'{mode}' is not offered by this version: the provider connects directly;"
                " write none, or leave the proxy section out"
            )
        return mode
