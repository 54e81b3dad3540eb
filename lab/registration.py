"""Steps 1 and 2 of every estate: a vault with a registration key, and registered providers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from azure.mgmt.recoveryservices import models as vault_models
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.identity import new_private_key, self_signed_certificate
from certs.vault_credentials import VaultCredentials, make_pfx, render
from lab.operator_client import Operator
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret

KEY_LIFETIME: Final = timedelta(hours=120)
"""Five days (VaultCertificateExpiryInHoursForHRM of the original)."""

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
CONNECTED_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class ConnectedProvider:
    """A provider as the operator sees it once it is connected."""

    name: str
    fabric: str
    vmm_fqdn: str


async def create_vault(operator: Operator, region: str) -> str:
    """Create the vault and return its ARM id."""
    poller = await operator.vaults.vaults.begin_create_or_update(
        *operator.scope,
        vault_models.Vault(
            location=region,
            sku=vault_models.Sku(name="Standard"),
            properties=vault_models.VaultProperties(),
        ),
    )
    vault = await poller.result()
    if vault.id is None:
        raise ProgramError("the hub created a vault without an id; look at the hub's log")
    return vault.id


async def write_registration_key(
    operator: Operator, region: str, hub_root_pem: str, folder: Path, now: datetime
) -> Path:
    """Upload a new certificate and return the vault credentials file, valid for five days."""
    vault = operator.address.vault
    key = new_private_key()
    name = f"CB_{vault}-{now.day}-{now:%m-%Y}-vaultcredentials"
    certificate = self_signed_certificate(key, name, now - CLOCK_TOLERANCE, now + KEY_LIFETIME)
    answer = await operator.vaults.vault_certificates.create(
        *operator.scope,
        f"CN={name}",
        vault_models.CertificateRequest(
            properties=vault_models.RawCertificateData(
                auth_type="AAD", certificate=certificate.public_bytes(Encoding.DER)
            )
        ),
    )
    details = answer.properties
    if not isinstance(details, vault_models.ResourceCertificateAndAadDetails):
        raise ProgramError("the hub answered the certificate upload without provider details")
    resource_id = int(details.resource_id or 0)
    content = render(
        VaultCredentials(
            subscription_id=operator.address.subscription_id,
            resource_group=operator.address.resource_group,
            vault_name=vault,
            resource_id=resource_id,
            location=region,
            management_pfx=make_pfx(
                key, certificate, [x509.load_pem_x509_certificate(hub_root_pem.encode())]
            ),
            aad_authority=details.aad_authority,
            aad_tenant_id=details.aad_tenant_id,
            service_principal_client_id=details.service_principal_client_id,
            vault_audience=f"https://RecoveryServiceVault/{region}/{vault}/{resource_id}",
            provider_url=details.azure_management_endpoint_audience,
            channel_integrity_key="",
        )
    )
    path = folder / f"{vault}_{now:%Y-%m-%dT%H-%M-%S}.VaultCredentials"
    write_secret(path, content)
    return path


async def wait_connected(
    operator: Operator, vmm_fqdns: Sequence[str], seconds: float = CONNECTED_SECONDS_MAX
) -> Mapping[str, ConnectedProvider]:
    """Return all providers by VMM server once each is connected; ProgramError names who is not."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        connected = await _connected(operator)
        missing = [fqdn for fqdn in vmm_fqdns if fqdn not in connected]
        if not missing:
            return connected
        if asyncio.get_running_loop().time() > deadline:
            raise ProgramError(
                f"the provider of {missing[0]} was not connected in {seconds:g} s;"
                " look at the log of its agent"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _connected(operator: Operator) -> dict[str, ConnectedProvider]:
    found = {}
    providers = operator.recovery.replication_recovery_services_providers
    async for provider in providers.list(*operator.scope):
        properties = provider.properties
        if properties is None or properties.connection_status != "Connected":
            continue
        fabric = _segment_after(provider.id or "", "replicationfabrics")
        fqdn = properties.fabric_friendly_name or properties.friendly_name or ""
        found[fqdn] = ConnectedProvider(provider.name or "", fabric, fqdn)
    return found


def _segment_after(resource_id: str, kind: str) -> str:
    """Return the name that follows `kind` in an ARM id; segments are case-insensitive."""
    parts = resource_id.split("/")
    for place, part in enumerate(parts[:-1]):
        if part.lower() == kind:
            return parts[place + 1]
    raise ProgramError(f"the id {resource_id} names no {kind}; look at the hub's log")
