"""Bodies of vaults and of what is kept with them."""

from typing import Final

from pydantic import ConfigDict, Field

from service_hub.arm.bodies import Input

_TAGS_MAX: Final = 50


class SkuInput(Input):
    """A vault's price level; there is one."""

    name: str = "Standard"


class VaultInput(Input):
    """PUT of a vault."""

    location: str = Field(min_length=1, max_length=90)
    tags: dict[str, str] = Field(default_factory=dict, max_length=_TAGS_MAX)
    sku: SkuInput = Field(default_factory=SkuInput)


class VaultChangeInput(Input):
    """PATCH of a vault: the tags replace the present ones; nothing else can be changed."""

    tags: dict[str, str] = Field(max_length=_TAGS_MAX)


class ExtendedInfoProperties(Input):
    """What old clients keep with a vault; the hub makes no use of it."""

    integrity_key: str | None = None
    encryption_key: str | None = None
    encryption_key_thumbprint: str | None = None
    algorithm: str | None = None


class ExtendedInfoInput(Input):
    """PUT and PATCH of a vault's extended information."""

    properties: ExtendedInfoProperties


class CertificateProperties(Input):
    """The public half of a registration certificate, base64 of DER."""

    auth_type: str | None = None
    certificate: str = Field(min_length=1, max_length=65_536)

    model_config = ConfigDict(str_max_length=None)


class CertificateInput(Input):
    """PUT of a vault certificate."""

    properties: CertificateProperties
