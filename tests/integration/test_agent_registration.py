import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certs.identity import new_private_key, self_signed_certificate
from certs.profiles import Profile
from certs.vault_credentials import VaultCredentials, make_pfx, render
from provider_agent.agent import vmm_driver
from provider_agent.credentials import (
    IdentityFacts,
    is_registered,
    load_identity,
    read_credentials,
    staged_key,
)
from provider_agent.registration import register
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.trust import Trust
from wire_contract import paths


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        yield made


def credentials(site: Estate, trust: Trust | None = None, **changes: Any) -> bytes:
    """The file as the portal writes it: issued certificate, hub's root as an extra one."""
    trust = trust or site.trust
    key = new_private_key()
    now = changes.pop("now", datetime.now(UTC))
    issued = trust.chain.issue(Profile.VAULT_REGISTRATION, key.public_key(), "vault-1", now)
    root = x509.load_pem_x509_certificate(trust.chain.root_pem.encode())
    issuer = x509.load_pem_x509_certificate(trust.chain.registration_ca_pem.encode())
    extra = changes.pop("extra", (issuer, root))
    values = {
        "subscription_id": "sub",
        "resource_group": "group",
        "vault_name": "Contoso vault",
        "resource_id": 7,
        "location": "japaneast",
        "management_pfx": make_pfx(key, issued.certificate, extra),
        "aad_authority": "https://login.example",
        "aad_tenant_id": "tenant",
        "service_principal_client_id": "client",
        "vault_audience": "https://RecoveryServiceVault/japaneast/Contoso/7",
        "provider_url": site.hub.url,
        "channel_integrity_key": "",
        **changes,
    }
    return render(VaultCredentials(**values))


def agent_folder(site: Estate) -> Path:
    return site.folder / "agent"


async def enrol(site: Estate, content: bytes, name: str = "Tokyo VMM") -> IdentityFacts:
    file = site.folder / "vault.VaultCredentials"
    file.write_bytes(content)
    async with vmm_driver(site.settings().vmm) as driver:
        return await register(agent_folder(site), file, name, driver, SystemClock())


async def test_a_new_server_gets_a_certificate_and_becomes_a_provider(site: Estate) -> None:
    facts = await enrol(site, credentials(site))
    assert facts.provider_id == site.hub.provider_id
    assert facts.friendly_name == "Tokyo VMM"
    (registration,) = site.hub.registrations
    assert (registration.vmm_id, registration.friendly_name) == ("vmm-1", "Tokyo VMM")
    identity = load_identity(agent_folder(site), datetime.now(UTC))
    assert identity.facts == facts
    assert identity.root_pem == site.trust.chain.root_pem
    for file in (agent_folder(site) / "identity").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with site.agent():
        assert site.hub.mqtt.online


async def test_registering_twice_is_refused_and_changes_nothing(site: Estate) -> None:
    await enrol(site, credentials(site))
    before = site.hub.requests.copy()
    with pytest.raises(ProgramError, match="already registered as Tokyo VMM"):
        await enrol(site, credentials(site))
    assert site.hub.requests == before


async def test_an_interrupted_registration_is_completed_with_the_same_certificate(
    site: Estate,
) -> None:
    """The hub may have registered the server although its answer was lost."""
    site.hub.refuse[paths.REGISTRATION] = 503
    with pytest.raises(ProgramError, match=r"was not completed.*run it again"):
        await enrol(site, credentials(site))
    assert not is_registered(agent_folder(site))
    del site.hub.refuse[paths.REGISTRATION]
    await enrol(site, credentials(site))
    assert site.hub.requests.count(("POST", paths.EST_SIMPLEENROLL)) == 1
    assert is_registered(agent_folder(site))


async def test_what_the_hub_no_longer_knows_is_enrolled_anew(site: Estate) -> None:
    site.hub.refuse[paths.REGISTRATION] = 403
    with pytest.raises(ProgramError, match="the hub refuses the registration"):
        await enrol(site, credentials(site))
    del site.hub.refuse[paths.REGISTRATION]
    site.hub.refuse[paths.TOKEN] = 403
    with pytest.raises(ProgramError):
        await enrol(site, credentials(site))
    assert site.hub.requests.count(("POST", paths.EST_SIMPLEENROLL)) == 2


async def test_a_known_server_waits_for_an_operator_and_says_so_once(site: Estate) -> None:
    site.hub.pending_enrolments = 2
    told: list[str] = []
    file = site.folder / "vault.VaultCredentials"
    file.write_bytes(credentials(site))
    async with vmm_driver(site.settings().vmm) as driver:
        facts = await register(
            agent_folder(site), file, "Tokyo", driver, SystemClock(), tell=told.append
        )
    assert facts.provider_id == site.hub.provider_id
    assert told == ["waits for an operator: site-recovery server approve 7"]


async def test_waiting_for_an_operator_has_an_end_and_the_key_is_kept(site: Estate) -> None:
    site.hub.pending_enrolments = 1
    file = site.folder / "vault.VaultCredentials"
    file.write_bytes(credentials(site))
    async with vmm_driver(site.settings().vmm) as driver:
        with pytest.raises(ProgramError, match="give the same command again after the approval"):
            await register(
                agent_folder(site), file, "Tokyo", driver, SystemClock(), approval_seconds_max=0.5
            )
    key = staged_key(agent_folder(site))
    await enrol(site, file.read_bytes())
    identity = load_identity(agent_folder(site), datetime.now(UTC))
    assert key is not None
    assert identity.key.public_key() == key.public_key()


async def test_a_hub_that_is_not_there_is_named(site: Estate) -> None:
    await site.hub.stop()
    with pytest.raises(ProgramError, match=f"{site.hub.url} cannot be reached"):
        await enrol(site, credentials(site))


async def test_a_server_with_a_foreign_certificate_is_not_the_hub(site: Estate) -> None:
    """The file's own root is the only anchor: no other authority of the machine counts."""
    with pytest.raises(ProgramError, match=r"is not from this hub.*TLS-intercepting proxy"):
        await enrol(site, credentials(site, Trust()))
    assert site.hub.requests == []


async def test_the_certificate_of_another_hubs_vault_is_refused(site: Estate) -> None:
    root = x509.load_pem_x509_certificate(site.trust.chain.root_pem.encode())
    with pytest.raises(ProgramError, match=r"registration was not completed|hub refuses"):
        await enrol(site, credentials(site, Trust(), extra=(root,)))
    assert site.hub.registrations == []


def past(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"x" * (1024 * 1024 + 1), "is larger than 1048576 bytes"),
        (b"<RSVaultAsrCreds>", "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "is damaged"),
    ],
)
async def test_a_file_that_is_not_one_says_what_is_wrong(
    site: Estate, content: bytes, message: str
) -> None:
    with pytest.raises(ProgramError, match=message):
        await enrol(site, content)
    assert site.hub.requests == []


async def test_a_file_of_100_megabytes_is_refused_without_being_read(site: Estate) -> None:
    file = site.folder / "vault.VaultCredentials"
    with file.open("wb") as stream:
        stream.truncate(100 * 1024 * 1024)
        stream.write(b"<RSVaultAsrCreds>")
    async with vmm_driver(site.settings().vmm) as driver:
        with pytest.raises(ProgramError, match="is larger than 1048576 bytes"):
            await register(agent_folder(site), file, "Tokyo", driver, SystemClock())
    assert site.hub.requests == []


async def test_a_file_whose_key_is_another_vaults_saves_nothing(site: Estate) -> None:
    with pytest.raises(ProgramError, match=r"names the vault Fabrikam.*belongs to Contoso vault"):
        await enrol(site, credentials(site, vault_name="Fabrikam"))
    assert not is_registered(agent_folder(site))


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_an_hour_off_is_named_where_it_matters(
    site: Estate, hours: int
) -> None:
    file = site.folder / "vault.VaultCredentials"
    file.write_bytes(credentials(site))
    clock = datetime.now(UTC) + timedelta(hours=hours)
    if hours < 0:
        with pytest.raises(ProgramError, match=r"valid only from .*set this server's clock"):
            read_credentials(file, clock)
    else:
        assert read_credentials(file, clock).vault_name == "Contoso vault"


async def test_a_missing_file_is_named(site: Estate) -> None:
    async with vmm_driver(site.settings().vmm) as driver:
        with pytest.raises(ProgramError, match=r"nowhere.*is missing"):
            await register(
                agent_folder(site), site.folder / "nowhere", "Tokyo", driver, SystemClock()
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"management_pfx": b"damaged"}, "is damaged"),
        ({"extra": ()}, "holds 0 root certificates"),
    ],
)
async def test_credentials_that_are_no_good_say_why(
    site: Estate, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProgramError, match=message):
        await enrol(site, credentials(site, **changes))
    assert site.hub.requests == []


async def test_an_expired_registration_key_says_when_and_what_to_do(site: Estate) -> None:
    key = new_private_key()
    old = self_signed_certificate(key, "vault-1", past(9), past(3))
    root = x509.load_pem_x509_certificate(site.trust.chain.root_pem.encode())
    content = credentials(site, management_pfx=make_pfx(key, old, (root,)))
    with pytest.raises(ProgramError, match=r"expired at .* UTC; generate a new registration key"):
        await enrol(site, content)
    future = self_signed_certificate(key, "vault-1", past(-2), past(-5))
    content = credentials(site, management_pfx=make_pfx(key, future, (root,)))
    with pytest.raises(ProgramError, match="valid only from"):
        await enrol(site, content)
    assert site.hub.requests == []


async def test_a_friendly_name_has_a_length(site: Estate) -> None:
    for name in ("", "n" * 129):
        with pytest.raises(ProgramError, match="1 to 128 characters"):
            await enrol(site, credentials(site), name)


@pytest.mark.parametrize("file", ["identity.json", "key.pem", "certificate.pem", "root.pem"])
async def test_a_damaged_identity_is_named(site: Estate, file: str) -> None:
    site.register()
    (agent_folder(site) / "identity" / file).write_bytes(b"damaged")
    with pytest.raises(ProgramError, match=r"the identity in .* is damaged"):
        load_identity(agent_folder(site), datetime.now(UTC))


async def test_an_expired_management_certificate_is_named(site: Estate) -> None:
    site.register()
    with pytest.raises(ProgramError, match="expired at"):
        load_identity(agent_folder(site), datetime.now(UTC) + timedelta(days=365))


async def test_a_key_that_others_may_read_is_refused(site: Estate) -> None:
    site.register()
    (agent_folder(site) / "identity" / "key.pem").chmod(0o644)
    with pytest.raises(ProgramError, match="chmod 600"):
        load_identity(agent_folder(site), datetime.now(UTC))
