"""Files that are no credentials, at both commands that register: one line each, and its own.

All files go to one run of each command, which costs a second.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.identity import new_private_key
from certs.profiles import Profile
from certs.vault_credentials import VaultCredentials, make_pfx, render
from tests.support.setup_world import vault_credentials
from tests.support.simulator_estate import trust

SECONDS_MAX = 60
HUB = "https://hub.example:9443"
PROGRAMS = {
    "provider-agent": """
import json, sys
from provider_agent.cli import application
for file in json.loads(sys.argv[2]):
    options = ("--config", sys.argv[1], "--credentials", file, "--friendly-name", "T", "--yes")
    try:
        application(["register", *options])
    except SystemExit as ended:
        print(ended.code)
""",
    "DRConfigurator": """
import json, sys
from provider_agent.dr_configurator import configure
for file in json.loads(sys.argv[2]):
    print(configure(["/R", "/Credentials", file, "/FriendlyName", "T", "--config", sys.argv[1]]))
""",
}
WORDS = {
    "missing": "is missing; download it from the vault",
    "empty": "is empty; download it from the vault",
    "damaged": "is damaged: the file is not well-formed XML",
    "cut": "is damaged: the file is not well-formed XML",
    "another": "is damaged: the file is not a vault credentials file: it begins with note",
    "spoilt": "is damaged: the PFX is damaged or has a password",
    "huge": "is larger than 1048576 bytes; is it the right file?",
    "expired": "; generate a new registration key in the vault and download its file",
    "early": "UTC on; set this server's clock",
}


def issued(begin: datetime, pfx: bytes | None = None) -> bytes:
    """Return a file whose key was issued then."""
    key = new_private_key()
    leaf = trust().issue(Profile.VAULT_REGISTRATION, key.public_key(), "vault-1", begin)
    pems = (trust().registration_ca_pem, trust().root_pem)
    extra = [x509.load_pem_x509_certificate(pem.encode()) for pem in pems]
    return render(
        VaultCredentials(
            subscription_id="s",
            resource_group="g",
            vault_name="Contoso vault",
            resource_id=7,
            location="l",
            management_pfx=pfx or make_pfx(key, leaf.certificate, extra),
            aad_authority="",
            aad_tenant_id="",
            service_principal_client_id="",
            vault_audience="",
            provider_url=HUB,
            channel_integrity_key="",
        )
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    now, good = datetime.now(UTC), vault_credentials(HUB)
    contents = {
        "empty": b"",
        "damaged": b"\x00\xff" + good,
        "cut": good[: len(good) // 2],
        "another": b"<note/>",
        "spoilt": issued(now, pfx=b"spoilt"),
        "huge": b"",
        "expired": issued(now - timedelta(hours=121)),
        "early": issued(now + timedelta(hours=1)),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with (tmp_path / "huge").open("r+b") as stream:
        stream.truncate(100 * 1024 * 1024)
    return {name: tmp_path / name for name in WORDS}


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_file_that_is_no_good_is_refused_in_one_line_of_its_own(
    tmp_path: Path, files: dict[str, Path], program: str
) -> None:
    config = tmp_path / "agent.json"
    vmm = {"url": "https://127.0.0.1:1", "ca_file": "ca.pem", "token_file": "token"}
    config.write_text(json.dumps({"data_directory": "agent", "vmm": vmm}))
    ended = subprocess.run(
        (
            sys.executable,
            "-c",
            PROGRAMS[program],
            str(config),
            json.dumps([str(files[name]) for name in WORDS]),
        ),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert ended.stdout.split() == ["1"] * len(WORDS), ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == len(WORDS), ended.stderr
    for (name, words), line in zip(WORDS.items(), lines, strict=True):
        assert line.startswith("error: the credentials file "), line
        assert str(files[name]) in line
        assert words in line
    assert not (tmp_path / "agent" / "identity").exists()
