"""Sites in a ring: each protects a machine of its own to the next one, and takes one from before.

Each has two clouds, since a cloud belongs to one pair: one with its machine, one for the other's
replica, with a host for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from service_shell.secret_files import write_secret
from tests.support.kill_stories import no_job_runs
from tests.support.kill_world import KillWorld
from tests.support.simulator_estate import TOKEN, Estate, _server_certificate

DISK_BYTES = 2 * 65_536
OWN, TAKING = "own", "taking"


@dataclass
class RingEstate(Estate):
    """The files of the sites of a ring."""

    sites: Sequence[str] = ()

    def write(self) -> None:
        """Write what all sites need."""
        lines = [
            f"{self.prefix}.{10 * row + column} {fqdn}\n"
            for row, site in enumerate(self.sites, start=1)
            for column, fqdn in enumerate(self.fqdns(site), start=1)
        ]
        (self.folder / "hosts").write_text("".join(lines))
        chain, key = _server_certificate()
        (self.folder / "server.pem").write_text(chain)
        write_secret(self.folder / "server-key.pem", key)
        write_secret(self.folder / "token", TOKEN.encode())
        for site in self.sites:
            content = Random(site).randbytes(DISK_BYTES)  # noqa: S311 -- a test's bytes
            self._image(site).write_bytes(content)

    def configuration(self, site: str, **changes: Any) -> dict[str, Any]:
        """Return a site's configuration as it stands in a file."""
        told = super().configuration("tokyo", **changes)
        clouds = [cloud_of(site, kind) for kind in (OWN, TAKING)]
        groups = [f"group-{kind}" for kind in (OWN, TAKING)]
        told["site"] = site
        told["data_directory"] = str(self.folder / site / "vmm")
        told["inventory"] = {
            "clouds": [
                {"id": cloud, "name": cloud, "host_groups": [group]}
                for cloud, group in zip(clouds, groups, strict=True)
            ],
            "host_groups": [{"id": group, "name": group} for group in groups],
            "hosts": [
                {
                    "fqdn": fqdn,
                    "host_group": group,
                    "disks_directory": str(self.folder / site / fqdn),
                }
                for fqdn, group in zip(self.fqdns(site), groups, strict=True)
            ],
            "logical_networks": [{"id": "logical", "name": "logical", "clouds": clouds}],
            "networks": [{"id": "network", "name": "network", "logical_network": "logical"}],
            "machines": [self._machine_of(site)],
        }
        return told

    def _machine_of(self, site: str) -> dict[str, Any]:
        return {
            "id": machine_of(site),
            "name": f"SQL-{site}",
            "host": self.fqdns(site)[0],
            "cloud": cloud_of(site, OWN),
            "disks": [{"id": f"{site}-disk", "name": "disk", "path": str(self._image(site))}],
            "nics": [{"id": f"{site}-nic", "network": "network"}],
        }

    def _image(self, site: str) -> Path:
        return self.folder / f"{site}.img"


def cloud_of(site: str, kind: str) -> str:
    """Return a cloud of a site."""
    return f"cloud-{site}-{kind}"


def machine_of(site: str) -> str:
    """Return the id of the machine of a site."""
    return f"vm-{site}"


async def paired_ring(world: KillWorld, sites: Sequence[str]) -> None:
    """Make a policy, pair each site's own cloud with the next one's, and know all machines."""
    settings = {
        "provider_type": "HyperVReplica2012R2",
        "replication_frequency_seconds": 30,
        "replica_deletion_required": True,
    }
    identity = world.identity()
    await world.call(lambda hub: hub.policies.create(hub.vault, "p", settings, identity))
    for site, following in zip(sites, [*sites[1:], sites[0]], strict=True):
        await world.until(lambda: _no_job_runs(world), "no job runs")
        await _pair(world, site, following)
    await world.until(lambda: _no_job_runs(world), "no job runs")
    await world.known(*(machine_of(site) for site in sites))


async def _pair(world: KillWorld, site: str, following: str) -> None:
    identity = world.identity()
    await world.call(
        lambda hub: hub.pairing.pair(
            hub.vault,
            name=f"{site}-to-{following}",
            primary=(f"{site}-fabric", cloud_of(site, OWN)),
            recovery=(f"{following}-fabric", cloud_of(following, TAKING)),
            policy_name="p",
            identity=identity,
        )
    )


async def _no_job_runs(world: KillWorld) -> bool:
    done: bool = await world.call(no_job_runs)
    return done
