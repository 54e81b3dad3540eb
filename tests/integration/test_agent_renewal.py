"""The management certificate is renewed while the provider works; nothing is lost by it."""

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from provider_agent import credentials
from provider_agent.credentials import Identity, load_identity
from provider_agent.renewal import renewal_at
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.trust import Trust
from tests.integration.agent_fakes.waiting import until
from wire_contract import paths
from wire_contract.reports import Receipt, TaskOutcome
from wire_contract.vocabulary import Verb


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.vmm.add("machine-1")
        made.register()
        yield made


def folder(site: Estate) -> Path:
    return site.folder / "agent"


def identity(site: Estate) -> Identity:
    return load_identity(folder(site), datetime.now(UTC))


def aged(site: Estate, days: int) -> Identity:
    """Give the provider a certificate that was issued some days ago, for 30 days."""
    present, key = identity(site), new_private_key()
    issued = site.trust.chain.issue(
        Profile.PROVIDER_MANAGEMENT,
        key.public_key(),
        site.hub.provider_id,
        datetime.now(UTC) - timedelta(days=days),
    )
    old = replace(present, key=key, chain_pem=issued.chain_pem)
    place = folder(site) / "identity"
    (place / "key.pem").write_bytes(private_key_pem(key))
    (place / "certificate.pem").write_text(issued.chain_pem)
    return old


def test_two_thirds_of_a_life_are_the_time_to_renew() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    issued = Trust().chain.issue(
        Profile.PROVIDER_MANAGEMENT,
        new_private_key().public_key(),
        "p",
        now,
        lifetime=timedelta(days=7),
    )
    due = renewal_at(issued.chain_pem)
    assert timedelta(days=4.6) < due - now < timedelta(days=4.7)


async def test_a_young_certificate_is_left_alone(site: Estate) -> None:
    async with site.agent():
        assert ("POST", paths.EST_SIMPLEREENROLL) not in site.hub.requests


async def test_an_old_certificate_is_renewed_and_the_work_goes_on(site: Estate) -> None:
    old = aged(site, 21)
    site.hub.refuse[paths.EST_SIMPLEREENROLL] = 503
    async with site.agent():
        site.vmm.holds["start"] = asyncio.Event()
        site.hub.assign("start", "machine-1", "job-1")
        await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the verb is called")
        del site.hub.refuse[paths.EST_SIMPLEREENROLL]
        await until(lambda: site.hub.renewals, "the certificate is renewed")
        site.hub.assign("shut_down", "machine-1", "job-2")
        site.vmm.holds["start"].set()
        await until(lambda: site.hub.outcome("job-2"), "both tasks are done")
        await until(lambda: site.hub.mqtt.connects == 2 and site.hub.mqtt.online, "MQTT is back")
        site.hub.assign("start", "machine-1", "job-3")
        await until(lambda: site.hub.outcome("job-3"), "the third task is done")
        assert len(site.hub.renewals) == 1
        assert len({each.boot_id for each in site.hub.sessions}) == 1, "one provider, one session"
    outcomes = [(each.job, each.succeeded) for each in site.hub.told(TaskOutcome)]
    assert outcomes == [("job-1", True), ("job-2", True), ("job-3", True)]
    assert [each.seq for each in site.hub.told(Receipt)] == [1, 2, 3]
    assert site.vmm.effect_count(Verb.START, "machine-1") == 2
    renewed = identity(site)
    assert renewed.facts == old.facts
    assert renewed.chain_pem != old.chain_pem
    assert renewed.key.public_key() != old.key.public_key()
    (former,) = folder(site).glob("identity.former-*")
    assert (former / "key.pem").read_bytes() == old.key_pem
    for file in (*former.iterdir(), *(folder(site) / "identity").iterdir()):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_refused_renewal_is_asked_for_again_with_the_same_key(site: Estate) -> None:
    aged(site, 25)
    site.hub.refuse[paths.EST_SIMPLEREENROLL] = 409
    async with site.agent():
        staged = folder(site) / "identity.renewed" / "key.pem"
        await until(staged.exists, "the key is kept before it is asked with")
        key = credentials.renewal_key(folder(site), new_private_key)
        del site.hub.refuse[paths.EST_SIMPLEREENROLL]
        await until(lambda: site.hub.renewals, "the certificate is renewed", seconds=60)
        await until(lambda: not staged.exists(), "the new identity is in its place")
    assert identity(site).key.public_key() == key.public_key()


async def test_killed_while_the_folders_change_the_next_start_goes_on(site: Estate) -> None:
    old = identity(site)
    key = credentials.renewal_key(folder(site), new_private_key)
    issued = site.trust.chain.issue(
        Profile.PROVIDER_MANAGEMENT, key.public_key(), site.hub.provider_id, datetime.now(UTC)
    )
    renewed = replace(old, key=key, chain_pem=issued.chain_pem)
    credentials.save_renewed(folder(site), renewed)
    # As if the program had been killed between the two renames:
    (folder(site) / "identity").rename(folder(site) / "identity.renewed")
    assert credentials.is_registered(folder(site))
    assert identity(site).chain_pem == issued.chain_pem
    async with site.agent():
        assert site.hub.mqtt.online


async def test_a_former_key_goes_when_all_that_was_encrypted_to_it_has_expired(
    site: Estate,
) -> None:
    old = aged(site, 21)
    key = credentials.renewal_key(folder(site), new_private_key)
    issued = site.trust.chain.issue(
        Profile.PROVIDER_MANAGEMENT, key.public_key(), site.hub.provider_id, datetime.now(UTC)
    )
    credentials.save_renewed(folder(site), replace(old, key=key, chain_pem=issued.chain_pem))
    end = x509.load_pem_x509_certificates(old.chain_pem.encode())[0].not_valid_after_utc
    assert credentials.drop_former(folder(site), end + timedelta(hours=23)) == 0
    assert credentials.drop_former(folder(site), end + timedelta(hours=25)) == 1
    assert not list(folder(site).glob("identity.former-*"))
    assert identity(site).chain_pem == issued.chain_pem


async def test_a_damaged_former_key_does_not_keep_the_provider_from_working(site: Estate) -> None:
    former = folder(site) / "identity.former-0123456789abcdef"
    former.mkdir(mode=0o700)
    (former / "certificate.pem").write_text("damaged")
    (former / "certificate.pem").chmod(0o600)
    async with site.agent():
        assert site.hub.mqtt.online


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem", "root.pem", "identity.json"])
async def test_an_identity_that_others_may_read_is_refused_at_the_start(
    site: Estate, name: str
) -> None:
    (folder(site) / "identity" / name).chmod(0o640)
    with pytest.raises(ProgramError, match=rf"{name}.*others may read it.*chmod 600"):
        identity(site)
