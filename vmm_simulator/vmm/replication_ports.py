"""On which ports a host takes replication, for which pairing, and how callers prove themselves."""

from collections.abc import Mapping

from pydantic import Field

from vmm_simulator.hyperv.backend import Authentication
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.record import Record


class PairPort(Record):
    """What one pairing of a cloud set up on its hosts."""

    port: int = Field(ge=1, le=65_535)
    authentication: Authentication = Authentication.CERTIFICATE


def require_one_way(ports: Mapping[str, PairPort]) -> None:
    """Refuse pairings that want different proofs on one port: a port speaks TLS or it does not."""
    ways: dict[int, Authentication] = {}
    for cloud, wanted in sorted(ports.items()):
        if ways.setdefault(wanted.port, wanted.authentication) is not wanted.authentication:
            raise RefusedError(
                Code.IN_USE,
                f"port {wanted.port} is in use with {ways[wanted.port]}: cloud {cloud} cannot have "
                f"it with {wanted.authentication}",
                "give one of both pairings another port (8084 for certificates, 8083 for Kerberos)",
            )
