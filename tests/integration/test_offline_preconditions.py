"""What a share must be for first copies that travel, looked at as clouds are prepared (step 4)."""

from pathlib import Path
from typing import Any

from tests.support.simulator_estate import (
    CLOUD,
    FILE_SERVER,
    MACHINE,
    PORT,
    SHARE,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import certificates_for, enable
from vmm_simulator.vmm.estate_records import FileShareRecord
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.records import HostRecord
from wire_contract.vocabulary import Verb

IMPORT_SERVER = "files.osaka.example"
READY: dict[str, Any] = {
    "full_control": ("vmm-service",),
    "share_full_control": ("vmm-service",),
    "server_groups": {"Server Operators": ("vmm-service",)},
    "read_write": ("fabric-account",),
    "server": FILE_SERVER,
}
TRUSTED: dict[str, Any] = {
    "delegations": (f"cifs/{FILE_SERVER}", f"cifs/{IMPORT_SERVER}"),
}
ACCOUNT: dict[str, Any] = {"run_as_account": "fabric-account"}
"""Of one host alone: the other was added without."""

HOST = "host2.tokyo.example"
MISSING: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({"full_control": ()}, {}, "give vmm-service full control (NTFS) of"),
    ({"share_full_control": ()}, {}, f"give vmm-service full control of the share {SHARE}"),
    (
        {"server_groups": {"Users": ("vmm-service",)}},
        {},
        "make vmm-service a member of Administrators,",
    ),
    (
        {"read_write": ()},
        {},
        f"give RunAs account fabric-account (host {HOST}) read and write on {SHARE}",
    ),
    (
        {},
        {"delegations": (f"cifs/{IMPORT_SERVER}",)},
        f"trust host {HOST} for constrained delegation to cifs/{FILE_SERVER}",
    ),
    (
        {},
        {"delegations": (f"cifs/{FILE_SERVER}",)},
        f"trust host {HOST} for constrained delegation to cifs/{IMPORT_SERVER}",
    ),
)
"""What is changed of the share, of the host, and what is then said; all else is as it should be."""


async def furnish(site: RunningSite, share: dict[str, Any], host: dict[str, Any]) -> None:
    """Have the share and both hosts ready, but for these changes."""

    def change(inventory: Inventory) -> Edit:
        hosts: list[HostRecord] = [
            each.model_copy(update=TRUSTED | ({**ACCOUNT, **host} if each.fqdn == HOST else {}))
            for each in inventory.hosts.values()
        ]
        shares: tuple[FileShareRecord, ...] = tuple(
            each.model_copy(update=READY | share) for each in inventory.fabric.file_shares
        )
        fabric = inventory.fabric.model_copy(update={"file_shares": shares})
        return Edit(put=(*hosts, fabric))

    await site.site.fabric.store.edit(change)


async def test_each_precondition_is_refused_when_clouds_are_prepared(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    estate.offline = True
    async with estate.running("tokyo") as tokyo:
        issued = {"certificates": await certificates_for(tokyo)}
        await tokyo.done(Verb.CONFIGURE_HOSTS, CLOUD["tokyo"], issued)

        async def prepare(**changes: Any) -> tuple[int, dict[str, Any]]:
            wanted = {
                "replica_port": PORT,
                "authentication": "certificate",
                "allowed_primaries": estate.fqdns("osaka"),
                "offline_folder": f"{SHARE}\\out",
                "further_servers": [IMPORT_SERVER],
            }
            return await tokyo.verb(Verb.PREPARE_CLOUD, CLOUD["tokyo"], {**wanted, **changes})

        for share, host, said in MISSING:
            await furnish(tokyo, share, host)
            status, problem = await prepare()
            assert (status, problem["code"]) == (409, 91012), said
            assert said in problem["message"]
            assert ";" not in problem["message"], "nothing else is missing"
        for server in (estate.fqdns("tokyo")[0], estate.fqdns("osaka")[1]):
            trusted = {"delegations": (f"cifs/{server}", f"cifs/{IMPORT_SERVER}")}
            await furnish(tokyo, {"server": server}, trusted)
            status, problem = await prepare()
            assert (status, problem["code"]) == (409, 91012)
            assert f"{server} is a Hyper-V host, and Hyper-V has no loopback" in problem["message"]
        await furnish(tokyo, {}, {})
        status, problem = await prepare(offline_folder="\\\\files.example\\elsewhere")
        assert "there is no share for" in problem["message"]
        assert not tokyo.site.fabric.store.host(HOST).replica_ports, "nothing was prepared"
        assert (await prepare())[0] == 200


async def test_a_machine_is_exported_only_from_a_host_that_trusts_both_computers(
    tmp_path: Path,
) -> None:
    estate = make_estate(tmp_path)
    estate.offline = True
    async with estate.both() as (tokyo, osaka):
        await enable(estate, tokyo, osaka)
        wanted = {"folder": SHARE, "further_servers": [IMPORT_SERVER]}
        status, problem = await tokyo.verb(Verb.EXPORT_INITIAL_REPLICATION, MACHINE, wanted)
        assert (status, problem["code"]) == (409, 91012)
        assert f"constrained delegation to cifs/{IMPORT_SERVER}" in problem["message"]
        await furnish(tokyo, {}, {})
        await tokyo.done(Verb.EXPORT_INITIAL_REPLICATION, MACHINE, wanted)
