"""Messages of the provider API that wire_contract does not name yet."""

from typing import Final

from pydantic import Field

from wire_contract.model import WireModel
from wire_contract.reports import HostCertificate, HostCertificateRequest

HOST_REQUESTS_MAX: Final = 512


class TokenAnswer(WireModel):
    """The access token, as a JWE that only the certificate's key opens, and its life."""

    token: str
    expires_in: int


class HostCertificateRequests(WireModel):
    """The requests of several hosts at once."""

    requests: tuple[HostCertificateRequest, ...] = Field(max_length=HOST_REQUESTS_MAX)


class HostCertificates(WireModel):
    """The issued certificates, in the order of the requests."""

    certificates: tuple[HostCertificate, ...]
