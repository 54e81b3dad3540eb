"""A real Kerberos centre (MIT's krb5kdc) on loopback, with files of its own, for tests."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REALM = "ESTATE.EXAMPLE"
SECONDS_MAX = 30.0
_CLIENT = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    ticket_lifetime = 1h
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
"""
_CENTRE = """
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
        max_life = 1h
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
"""


@dataclass
class KerberosCentre:
    """A running centre."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def configuration_file(self) -> Path:
        """What a member of the realm has as krb5.conf."""
        return self.folder / "krb5.conf"

    def keytab(self, principal: str, name: str) -> Path:
        """Make a principal with a key of chance, and the file NAME.keytab with it (0600)."""
        path = self.keytab_of(name)
        if not path.exists():
            self._run("kadmin.local", "-q", f"addprinc -randkey {principal}@{REALM}")
            self._run("kadmin.local", "-q", f"ktadd -k {path} {principal}@{REALM}")
            path.chmod(0o600)
        return path

    def host_keytab(self, fqdn: str) -> Path:
        """Return the keytab of a host, which becomes a member of the realm."""
        return self.keytab(f"host/{fqdn}", fqdn)

    def node_keytab(self, fqdn: str, broker: str) -> Path:
        """Return the keytab of a node, with the one key that all nodes have of their broker."""
        path, of_broker = self.host_keytab(fqdn), self.keytab(f"host/{broker}", broker)
        with path.open("ab") as file:
            # After its two bytes of version a keytab is a list of keys.
            file.write(of_broker.read_bytes()[2:])
        return path

    def keytab_of(self, name: str) -> Path:
        """Return where a keytab is, or would be."""
        return self.folder / f"{name}.keytab"

    def stop(self) -> None:
        """End the centre; nobody gets another ticket."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            process.wait(SECONDS_MAX)

    def start(self) -> None:
        """Run the centre."""
        command = ["krb5kdc", "-n", "-r", REALM]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command, env=self._environment(), stdout=output, stderr=output
            )
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "output").read_text()
            assert time.monotonic() < deadline, "krb5kdc does not listen"
            time.sleep(0.02)

    def create(self) -> None:
        """Make the database and its files."""
        self.configuration_file.write_text(_CLIENT.format(realm=REALM, port=self.port))
        text = _CENTRE.format(realm=REALM, port=self.port, folder=self.folder)
        (self.folder / "kdc.conf").write_text(text)
        self._run("kdb5_util", "create", "-r", REALM, "-s", "-P", "a password of the test")

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
            "KRB5_CONFIG": str(self.configuration_file),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
        }

    def _run(self, *command: str) -> None:
        ended = subprocess.run(
            command,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)


@contextlib.contextmanager
def kerberos_centre(folder: Path) -> Iterator[KerberosCentre]:
    """Run a centre over an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    centre = KerberosCentre(folder, port)
    centre.create()
    centre.start()
    try:
        yield centre
    finally:
        centre.stop()


def missing() -> list[str]:
    """Return what this machine lacks for a realm."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    tools = [tool for tool in ("krb5kdc", "kadmin.local") if shutil.which(tool, path=path) is None]
    if importlib.util.find_spec("gssapi") is None:
        tools.append("the extra kerberos")
    return tools
