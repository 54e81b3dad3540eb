"""Two sites whose hosts are nodes of a cluster each, for tests."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.kerberos_centre import REALM, KerberosCentre
from tests.support.simulator_estate import MACHINE, REPLICA, Estate, RunningSite

REPLICATING: Final = 3


def clustered(estate: Estate, site: str, **changes: Any) -> dict[str, Any]:
    """Return a site's inventory whose hosts are nodes of one cluster with a shared volume."""
    return _in_cluster(estate.configuration(site)["inventory"], site, estate.folder, **changes)


@dataclass
class ClusteredEstate(Estate):
    """Two sites, each with one cluster that all its hosts are nodes of; all in a realm, or none."""

    realm: KerberosCentre | None = None

    def configuration(self, site: str, **changes: Any) -> dict[str, Any]:
        """Return a site's configuration as it stands in a file."""
        told = super().configuration(site, **changes)
        told["inventory"] = _in_cluster(told["inventory"], site, self.folder)
        if self.realm is not None:
            told["kerberos"] = {
                "realm": REALM,
                "configuration_file": str(self.realm.configuration_file),
            }
            for host in told["inventory"]["hosts"]:
                host["keytab_file"] = str(self.realm.node_keytab(host["fqdn"], self.broker(site)))
        return told


def _in_cluster(
    inventory: dict[str, Any], site: str, shared: Path, **changes: Any
) -> dict[str, Any]:
    name = f"cluster.{site}.example"
    # The machine's disks lie in the estate's own folder.
    folder = shared if site == "tokyo" else shared / "csv"
    volume = {"kind": "CSV", "folder": str(folder), "capacity_bytes": 2**40, "cluster": name}
    return {
        **inventory,
        "clusters": [{"name": name, **changes}],
        "hosts": [{**host, "cluster": name} for host in inventory["hosts"]],
        "stores": [{"id": "csv", "name": "csv", **volume}],
    }


@contextlib.asynccontextmanager
async def both(estate: Estate) -> AsyncIterator[tuple[RunningSite, RunningSite]]:
    """Run both, each with a broker of its cluster's."""
    async with (
        estate.running("tokyo", inventory=clustered(estate, "tokyo")) as tokyo,
        estate.running("osaka", inventory=clustered(estate, "osaka")) as osaka,
    ):
        yield tokyo, osaka


async def move(site: RunningSite, machine_id: str, host: str) -> None:
    """Move a machine to another node, live."""
    path = f"/machines/{machine_id}/migration"
    status, answer = await site.manage("POST", path, {"host": host})
    assert (status, answer.get("host")) == (200, host), answer


async def replicates_on(tokyo: RunningSite, osaka: RunningSite) -> None:
    """Return once another change set went over, with nothing but changes in it."""
    held = (await osaka.machine(REPLICA))["replication"]["last_cut"]
    view = await osaka.until(REPLICA, lambda each: each["replication"]["last_cut"] > held + 1)
    assert view["replication"]["state"] == REPLICATING
    assert (await tokyo.machine(MACHINE))["replication"]["state"] == REPLICATING
