"""Certificates of Hyper-V hosts: requested by the hosts, issued by the hub, passed on."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog
from cryptography import x509
from pydantic import JsonValue

from certs.identity import thumbprint
from provider_agent.domain.retries import RECONNECT, seconds_left, wait_seconds
from provider_agent.hub_client import HubClient
from provider_agent.hub_https import HubError, HubUnreachableError
from provider_agent.outcomes import AttemptError, ErrorCode, own_error
from service_shell.clock import Clock
from wire_contract.events import Assignment
from wire_contract.reports import HostCertificate, HostCertificateRequest

log = structlog.get_logger(__name__)


class HostCertificates:
    """Has the hub issue certificates; waits for a hub that is away, until the deadline."""

    def __init__(self, hub: HubClient, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock

    async def issue(
        self, requests: Sequence[HostCertificateRequest], deadline: datetime
    ) -> list[JsonValue]:
        """Return one certificate per request as the verb `configure_hosts` takes them."""
        failures = 0
        while True:
            try:
                issued = await self._hub.host_certificates(requests)
                break
            except HubUnreachableError as error:
                failures += 1
                left = seconds_left(self._clock.now(), deadline)
                if left <= 0:
                    raise _failure(f"the hub was away until the deadline: {error}") from error
                log.warning("host_certificates_wait", cause=str(error))
                chance = self._clock.jitter(0, RECONNECT.bound_seconds(failures))
                await asyncio.sleep(min(left, wait_seconds(chance, error.retry_after)))
            except HubError as error:
                raise _failure(f"the hub does not issue them: {error}") from error
        _check(requests, issued)
        return [certificate.model_dump(mode="json") for certificate in issued]


def issued_thumbprints(assignment: Assignment) -> dict[str, str]:
    """Return the thumbprint of each host's certificate in the arguments of the assignment."""
    certificates = assignment.arguments.get("certificates")
    thumbprints = {}
    for each in certificates if isinstance(certificates, list) else ():
        try:
            certificate = HostCertificate.model_validate(each)
            leaf = x509.load_pem_x509_certificates(certificate.chain_pem.encode())[0]
        except ValueError as error:
            raise _failure(f"a certificate is damaged: {error}") from error
        thumbprints[certificate.host] = thumbprint(leaf)
    return thumbprints


def _check(requests: Sequence[HostCertificateRequest], issued: Sequence[HostCertificate]) -> None:
    missing = {each.host for each in requests} - {each.host for each in issued}
    if missing:
        raise _failure(f"the hub issued none for {', '.join(sorted(missing))}")


def _failure(cause: str) -> AttemptError:
    return AttemptError(
        own_error(ErrorCode.HOST_CERTIFICATES, f"no certificates for the hosts: {cause}")
    )
