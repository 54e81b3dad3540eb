"""Registration: from a vault credentials file to an identity (design: channel, trust)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.enrolment import EnrolmentDamagedError, decode_certs_only, encode_request_body
from certs.identity import (
    KeyDamagedError,
    PrivateKey,
    certificate_pem,
    certificate_request,
    common_name,
    new_private_key,
    private_key_pem,
)
from certs.tls import client_context
from provider_agent import VERSION, credentials
from provider_agent.credentials import Identity, IdentityFacts, RegistrationCredentials
from provider_agent.domain.prerequisites import check_clock
from provider_agent.domain.proxies import DIRECT, ProxyChoice
from provider_agent.fabric.driver import FabricDriver, FabricError
from provider_agent.hub_client import AccessToken, HubClient
from provider_agent.hub_https import (
    HubError,
    HubHttps,
    HubPendingError,
    HubRefusedError,
    HubRequest,
)
from provider_agent.setup.hub_probe import HubPlace, probe_hub
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from wire_contract import paths
from wire_contract.reports import Registration
from wire_contract.vmm_interface import VmmView

FRIENDLY_NAME_CHARACTERS_MAX: Final = 128

APPROVAL_SECONDS_MAX: Final = 600.0
"""How long an operator's decision is waited for; after that the command is given again."""

APPROVAL_POLL_SECONDS_MIN: Final = 1.0
APPROVAL_POLL_SECONDS_MAX: Final = 60.0

log = structlog.get_logger(__name__)


def _log_only(message: str) -> None:
    log.warning("registration_waits", cause=message)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """How long an operator is waited for, and who is told that this goes on."""

    seconds_max: float
    tell: Callable[[str], None]


async def register(
    data_directory: Path,
    credentials_file: Path,
    friendly_name: str,
    driver: FabricDriver,
    clock: Clock,
    *,
    route: ProxyChoice = DIRECT,
    approval_seconds_max: float = APPROVAL_SECONDS_MAX,
    tell: Callable[[str], None] = _log_only,
) -> IdentityFacts:
    """Enrol and register this server once; what an interrupted run began is completed.

    A server that the vault knows already waits for an operator, at most `approval_seconds_max`.
    """
    if credentials.is_registered(data_directory):
        facts = credentials.load_identity(data_directory, clock.now()).facts
        raise ProgramError(
            f"this server is already registered as {facts.friendly_name} ({facts.provider_id}) in"
            f" the vault {facts.vault_name}; to register it anew, unregister it there and move"
            f" {data_directory / 'identity'} away"
        )
    if not 0 < len(friendly_name) <= FRIENDLY_NAME_CHARACTERS_MAX:
        raise ProgramError(
            f"--friendly-name must have 1 to {FRIENDLY_NAME_CHARACTERS_MAX} characters"
        )
    granted = credentials.read_credentials(credentials_file, clock.now())
    try:
        vmm = (await driver.inventory()).vmm
    except FabricError as error:
        raise ProgramError(f"cannot read the VMM server's identity: {error}; start it") from error
    key = _key(data_directory)
    registration = Registration(
        vmm_id=vmm.vmm_id,
        vmm_fqdn=vmm.fqdn,
        friendly_name=friendly_name,
        provider_version=VERSION,
        vmm_version=vmm.version,
    )
    await _compare_clocks(granted, route, clock)
    try:
        identity = await _resume(data_directory, granted, key, registration, clock, route=route)
        if identity is None:
            waiting = _Waiting(approval_seconds_max, tell)
            chain = await _enrolled(granted, key, vmm, route, waiting=waiting)
            credentials.stage_chain(data_directory, chain)
            identity = await _introduce(granted, key, chain, registration, clock, route=route)
    except HubRefusedError as error:
        raise ProgramError(f"the hub refuses the registration: {error.words}") from error
    except HubError as error:
        raise ProgramError(f"registration was not completed: {error}; run it again") from error
    credentials.save_identity(data_directory, identity)
    return identity.facts


async def _compare_clocks(
    granted: RegistrationCredentials, route: ProxyChoice, clock: Clock
) -> None:
    """Refuse to register by a wrong clock: deadlines of commands would mean nothing."""
    place = HubPlace(granted.provider_url, granted.root_pem)
    told = check_clock((await probe_hub(place, route, clock)).skew_seconds or 0.0)
    if not told.passed:
        raise ProgramError(
            f"this server's clock is {told.result}; nothing was registered: {told.remedy}"
        )


async def _resume(
    data_directory: Path,
    granted: RegistrationCredentials,
    key: PrivateKey,
    registration: Registration,
    clock: Clock,
    *,
    route: ProxyChoice,
) -> Identity | None:
    """Complete a registration that ended between certificate and answer; null: begin anew.

    The hub may have registered this server already and would not enrol it a second time.
    """
    chain = credentials.staged_chain(data_directory)
    if chain is None:
        return None
    try:
        issued = x509.load_pem_x509_certificates(chain.encode())
        chain = trusted_chain(issued, key, granted.root_pem)
        return await _introduce(granted, key, chain, registration, clock, route=route)
    except (ValueError, ProgramError, HubRefusedError) as error:
        log.warning("registration_begun_anew", cause=str(error))
        return None


def _key(data_directory: Path) -> PrivateKey:
    try:
        staged = credentials.staged_key(data_directory)
    except KeyDamagedError:
        # Half of a former attempt: nothing was ever granted to a key that cannot be read.
        staged = None
    if staged is not None:
        return staged
    key = new_private_key()
    credentials.stage_key(data_directory, key)
    return key


async def _enrolled(
    granted: RegistrationCredentials,
    key: PrivateKey,
    vmm: VmmView,
    route: ProxyChoice,
    *,
    waiting: _Waiting,
) -> str:
    """Return the issued chain, if need be after an operator has approved it."""
    loop = asyncio.get_running_loop()
    until = loop.time() + waiting.seconds_max
    told = ""
    while True:
        try:
            return await _enrol(granted, key, vmm, route)
        except HubPendingError as error:
            words = str(error)
            wished = error.retry_after or APPROVAL_POLL_SECONDS_MIN
        if words != told:
            waiting.tell(words)
            told = words
        pause = min(max(wished, APPROVAL_POLL_SECONDS_MIN), APPROVAL_POLL_SECONDS_MAX)
        if loop.time() + pause > until:
            raise ProgramError(
                f"{words}; nothing was decided in {waiting.seconds_max:.0f} s: give the same"
                " command again after the approval, this server's key is kept"
            )
        await asyncio.sleep(pause)


async def _enrol(
    granted: RegistrationCredentials, key: PrivateKey, vmm: VmmView, route: ProxyChoice
) -> str:
    """Return the chain of the new management certificate, leaf first (RFC 7030, 4.2)."""
    body = encode_request_body(certificate_request(key, vmm.vmm_id))
    tls = client_context(granted.root_pem, chain_pem=granted.chain_pem, key_pem=granted.key_pem)
    async with HubHttps.connect(granted.provider_url, tls, route) as https:
        answer = await https.send(
            HubRequest(
                "POST",
                paths.EST_SIMPLEENROLL,
                body,
                content_type="application/pkcs10",
                headers={paths.VAULT_HEADER: granted.vault_id} if granted.vault_id else {},
            )
        )
    try:
        issued = decode_certs_only(answer)
    except EnrolmentDamagedError as error:
        raise ProgramError(
            f"the hub's answer holds no certificate: {error}; its version may not fit this one"
        ) from error
    return trusted_chain(issued, key, granted.root_pem)


def trusted_chain(issued: Sequence[x509.Certificate], key: PrivateKey, root_pem: str) -> str:
    """Return leaf and issuing CA as PEM, if the leaf is for our key and chains to a pinned root."""
    roots = x509.load_pem_x509_certificates(root_pem.encode())
    for leaf in issued:
        for issuer in issued:
            if (
                leaf.public_key() == key.public_key()
                and _issued_by(leaf, issuer)
                and any(_issued_by(issuer, root) for root in roots)
            ):
                return certificate_pem(leaf) + certificate_pem(issuer)
    raise ProgramError(
        "the hub's certificate is not for this server's key or not from the hub's root;"
        " nothing was registered: check that the URL in the credentials file is the hub's"
    )


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


async def _introduce(
    granted: RegistrationCredentials,
    key: PrivateKey,
    chain: str,
    registration: Registration,
    clock: Clock,
    *,
    route: ProxyChoice,
) -> Identity:
    """Use the new certificate: fetch the token, register, return the identity."""
    provider_id = common_name(x509.load_pem_x509_certificates(chain.encode())[0])
    tls = client_context(granted.root_pem, chain_pem=chain, key_pem=private_key_pem(key))
    async with HubHttps.connect(granted.provider_url, tls, route) as https:
        hub = HubClient(https, AccessToken(https, key, clock.now))
        answer = await hub.register(registration)
    if answer.provider_id != provider_id:
        raise ProgramError(
            f"the hub registered {answer.provider_id}, but the certificate is for {provider_id};"
            " nothing was saved: report this, the hub contradicts itself"
        )
    if answer.vault_name.casefold() != granted.vault_name.casefold():
        raise ProgramError(
            f"the credentials file names the vault {granted.vault_name}, but its key belongs to"
            f" {answer.vault_name}: the file was changed, nothing was saved; remove the server"
            " from that vault, then register with a new file"
        )
    facts = IdentityFacts(
        **answer.model_dump(),
        vmm_id=registration.vmm_id,
        vmm_version=registration.vmm_version,
        friendly_name=registration.friendly_name,
        provider_url=granted.provider_url,
        registered_at=clock.now(),
    )
    return Identity(facts, key, chain, granted.root_pem)
