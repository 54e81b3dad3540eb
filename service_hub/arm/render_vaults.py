"""Vaults and their registration certificates."""

import base64
import hashlib
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic.alias_generators import to_camel

from service_hub.arm.ids import PROVIDER_NAMESPACE, VaultIds
from service_hub.arm.times import fine_time
from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import UploadedKey

EXTENDED_INFO: Final = "vaultExtendedInfo"
AUTHENTICATION_TYPE: Final = "AzureActiveDirectory"


def vault_body(vault: Vault) -> dict[str, Any]:
    """Return a vault; unlike what lies in it, its id begins in lower case (arm-examples/vaults)."""
    body: dict[str, Any] = {
        "id": (
            f"/subscriptions/{vault.subscription_id}/resourceGroups/{vault.resource_group}"
            f"/providers/{PROVIDER_NAMESPACE}/vaults/{vault.name}"
        ),
        "name": vault.name,
        "type": f"{PROVIDER_NAMESPACE}/vaults",
        "location": vault.location,
        "tags": dict(vault.tags),
        "sku": {"name": vault.sku_name},
        "properties": {"provisioningState": "Succeeded"},
    }
    return {**body, "etag": f'"{_digest(body)}"'}


def extended_info_body(vault: Vault) -> dict[str, Any]:
    """Return a vault's extended information; NotFoundError while nobody kept any."""
    if vault.extended_info is None:
        raise NotFoundError(EXTENDED_INFO)
    kept = vault.extended_info.model_dump(exclude_none=True)
    body: dict[str, Any] = {
        "id": f"{vault_body(vault)['id']}/extendedInformation/{EXTENDED_INFO}",
        "name": EXTENDED_INFO,
        "type": f"{PROVIDER_NAMESPACE}/vaults/extendedInformation",
        "properties": {to_camel(name): value for name, value in kept.items()},
    }
    return {**body, "etag": f'"{_digest(body)}"'}


def certificate_body(vault: Vault, uploaded: UploadedKey) -> dict[str, Any]:
    """Return an uploaded certificate and what a vault credentials file is made of.

    There is no directory behind this hub: authority and audience are where providers register,
    tenant is the subscription, and the service principal is the vault itself.
    """
    key = uploaded.key
    certificate = x509.load_pem_x509_certificate(key.certificate_pem.encode())
    der = certificate.public_bytes(Encoding.DER)
    root = VaultIds(vault).root
    return {
        "id": f"{root}/certificates/{key.name}",
        "name": key.name,
        "type": f"{PROVIDER_NAMESPACE}/vaults/certificates",
        "properties": {
            "authType": AUTHENTICATION_TYPE,
            "certificate": base64.b64encode(der).decode(),
            "friendlyName": "",
            "issuer": key.issuer,
            "resourceId": key.resource_number,
            "subject": key.subject,
            "thumbprint": key.sha1_thumbprint,
            "validFrom": fine_time(key.valid_from),
            "validTo": fine_time(key.expires_at),
            "aadAuthority": uploaded.provider_url,
            "aadTenantId": vault.subscription_id,
            "servicePrincipalClientId": vault.id,
            "servicePrincipalObjectId": vault.id,
            "azureManagementEndpointAudience": uploaded.provider_url,
            "serviceResourceId": root,
            "aadAudience": (
                f"https://RecoveryServiceVault/{vault.location}/{vault.name}/{vault.resource_number}"
            ),
        },
    }


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(body.items())).encode()).hexdigest()[:16]
