"""What makes a server trust another root, and what does not."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.chain import TrustChain
from certs.identity import new_private_key
from certs.profiles import Profile
from certs.signing import EventSigner, EventVerifier, UnverifiableError
from provider_agent import credentials
from provider_agent.credentials import Identity, IdentityFacts, load_identity, save_identity
from provider_agent.pinned_roots import PinnedRoots
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret

NOW = datetime.now(UTC)
OLD = TrustChain.create(NOW, "Tests")
NEW = TrustChain.create(NOW, "Tests", 2)
ANNOUNCEMENT = OLD.state_roots(1, NEW)
RETIREMENT = NEW.state_roots(2)


def identity_below(chain: TrustChain) -> Identity:
    key = new_private_key()
    issued = chain.issue(Profile.PROVIDER_MANAGEMENT, key.public_key(), "p", NOW)
    facts = IdentityFacts(
        provider_id="p",
        vault_id="v",
        vault_name="prod",
        vmm_id="vmm",
        vmm_version="3.2",
        friendly_name="Tokyo",
        provider_url="https://hub.test",
        mqtt_host="hub.test",
        mqtt_port=8883,
        heartbeat_seconds=60,
        registered_at=NOW,
    )
    return Identity(facts, key, issued.chain_pem, chain.root_pem)


class Server:
    """A registered server's pins, in memory and on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        save_identity(folder, identity_below(OLD))
        self.verifier = EventVerifier(OLD.root_pem)
        self.roots = self.restarted()

    def restarted(self) -> PinnedRoots:
        """Return the pins as the next start finds them."""
        return PinnedRoots(self.on_disk(), self.verifier, SystemClock(), self.folder)

    def on_disk(self) -> Identity:
        """Return the identity as it lies there."""
        return load_identity(self.folder, NOW)

    def verifies(self, chain: TrustChain) -> bool:
        """Return whether an event of that chain is believed."""
        key = new_private_key()
        issued = chain.issue(Profile.EVENT_SIGNER, key.public_key(), "event signer", NOW)
        try:
            self.verifier.verify(EventSigner(key, issued.chain_pem).sign({}), NOW)
        except UnverifiableError:
            return False
        return True


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_the_new_root_is_pinned_beside_the_old_and_then_alone(server: Server) -> None:
    assert server.roots.take(ANNOUNCEMENT)
    assert (server.verifies(OLD), server.verifies(NEW)) == (True, True)
    assert server.on_disk().root_pem == OLD.root_pem + NEW.root_pem
    assert server.restarted().serial == 1
    assert server.roots.take(RETIREMENT)
    assert (server.verifies(OLD), server.verifies(NEW)) == (False, True)
    assert server.on_disk().root_pem == NEW.root_pem
    assert server.restarted().thumbprints == (NEW.root_thumbprint,)


@pytest.mark.parametrize(
    "statement",
    [
        TrustChain.create(NOW, "Tests").state_roots(1, NEW),
        RETIREMENT,
        ANNOUNCEMENT[:-6] + "AAAAAA",
        "damaged",
    ],
)
def test_what_the_pinned_root_has_not_signed_changes_nothing(
    server: Server, statement: str
) -> None:
    assert not server.roots.take(statement)
    assert server.on_disk().root_pem == OLD.root_pem
    assert not server.verifies(NEW)


def test_an_older_statement_changes_nothing(server: Server) -> None:
    assert server.roots.take(ANNOUNCEMENT)
    again = OLD.state_roots(1, TrustChain.create(NOW, "Other"))
    for replayed in (ANNOUNCEMENT, again):
        assert not server.roots.take(replayed)
    assert server.roots.take(RETIREMENT)
    assert not server.roots.take(ANNOUNCEMENT), "the former root is back"
    assert server.roots.thumbprints == (NEW.root_thumbprint,)


def test_killed_between_two_files_the_statement_is_taken_once_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_roots_alone(path: Path, data: bytes) -> None:
        if path.name == "identity.json":
            raise ProgramError("the disk is full")
        write_secret(path, data)

    for statement, serial in ((ANNOUNCEMENT, 1), (RETIREMENT, 2)):
        with monkeypatch.context() as patch:
            patch.setattr(credentials, "write_secret", write_roots_alone)
            assert not server.roots.take(statement)
        server.roots = server.restarted()
        assert server.roots.take(statement)
        assert server.restarted().serial == serial


def test_a_renewal_is_due_once_the_hub_knows_and_not_after_it(server: Server) -> None:
    server.roots.confirmed(server.roots.thumbprints)
    assert not server.roots.renewal_wanted, "one root: nothing is being replaced"
    told = server.roots.thumbprints
    server.roots.take(ANNOUNCEMENT)
    server.roots.confirmed(told)
    assert not server.roots.renewal_wanted, "the hub was told before"
    server.roots.confirmed(server.roots.thumbprints)
    assert server.roots.renewal_wanted
    assert not server.roots.is_newest(server.on_disk().chain_pem)
    assert server.roots.is_newest(identity_below(NEW).chain_pem)
    present = server.on_disk()
    pinned = server.roots.pinned(replace(present, root_pem=OLD.root_pem))
    assert pinned == present, "who writes an identity that was read before writes the pins of now"


def test_pins_are_secret_files(server: Server) -> None:
    server.roots.take(ANNOUNCEMENT)
    files = (server.folder / "identity").iterdir()
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
