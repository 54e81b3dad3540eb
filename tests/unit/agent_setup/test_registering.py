from pathlib import Path

import pytest

from provider_agent.domain.registering import encryption_refusal, node_refusal
from provider_agent.domain.synchronization import for_vault
from provider_agent.shredding import shred
from service_shell.errors import ProgramError
from tests.unit.agent.agent_views import CLOUD_ID, inventory, machine
from wire_contract.vmm_service import NodeView, VmmServiceView


def view(role: str | None = "role.example", *versions: str | None) -> VmmServiceView:
    names = ("a", "b") if role else ("a",)
    versions = versions or (None, None)
    return VmmServiceView(
        vmm_id="vmm-1",
        fqdn="role.example",
        version="3.2",
        update_rollup=1,
        service_account="vmm",
        running=True,
        cluster_role=role,
        nodes=tuple(
            NodeView(fqdn=name, active=name == "a", provider_version=version)
            for name, version in zip(names, versions, strict=False)
        ),
    )


def test_a_cluster_registers_once_on_its_active_node_under_the_roles_name() -> None:
    assert node_refusal(view(), "a", "0.1.0", "Role.Example") is None
    assert "passive node" in str(node_refusal(view(), "b", "0.1.0", "role.example"))
    assert "active node a" in str(node_refusal(view(), "b", "0.1.0", "role.example"))
    assert "name of its role, role.example" in str(node_refusal(view(), "a", "0.1.0", "Tokyo"))


def test_a_single_server_takes_any_name() -> None:
    assert node_refusal(view(None), "a", "0.1.0", "Tokyo") is None


def test_other_versions_are_refused_with_their_nodes() -> None:
    found = view("role.example", "0.1.0", "0.0.9")
    assert "b has 0.0.9" in str(node_refusal(found, "a", "0.1.0", "role.example"))


@pytest.mark.parametrize(
    ("name", "good"), [("/a/c.pfx", True), ("c.PFX", True), ("c.pem", False), (".pfx", False)]
)
def test_an_encryption_file_ends_in_pfx(name: str, good: bool) -> None:
    assert (encryption_refusal(name) is None) is good


def test_only_machines_of_clouds_that_take_part_are_told() -> None:
    clouds = inventory().clouds
    for changes, expected in (
        ({"synchronized": True}, ["vm-1"]),
        ({"synchronized": False}, []),
        ({"synchronized": False, "paired_role": "Recovery"}, ["vm-1"]),
    ):
        base = {"paired_role": "", "partner_cloud_id": None}
        seen = inventory(
            machine(machine_id="vm-1", cloud_id=CLOUD_ID, protected_item=None, replication=None),
            clouds=tuple(cloud.model_copy(update={**base, **changes}) for cloud in clouds),
        )
        told = for_vault(seen)
        assert [each.machine_id for each in told.machines] == expected
        assert len(told.clouds) == len(clouds)


def test_what_is_protected_is_told_in_any_case() -> None:
    off = {"synchronized": False, "paired_role": "", "partner_cloud_id": None}
    hidden = tuple(cloud.model_copy(update=off) for cloud in inventory().clouds)
    protected = machine(machine_id="vm-1", cloud_id=CLOUD_ID, protected_item="item-1")
    seen = for_vault(inventory(protected, clouds=hidden))
    assert [each.machine_id for each in seen.machines] == ["vm-1"]


def test_shredding_overwrites_and_removes(tmp_path: Path) -> None:
    file, link = tmp_path / "key", tmp_path / "link"
    file.write_bytes(b"secret" * 20_000)
    link.hardlink_to(file)
    shred(file)
    assert not file.exists()
    assert len(link.read_bytes()) == 120_000
    assert b"secret" not in link.read_bytes()


def test_what_cannot_be_shredded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="could not be shredded"):
        shred(tmp_path / "missing")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text("kept")
    with pytest.raises(ProgramError, match="could not be shredded"):
        shred(tmp_path / "link")
    assert (tmp_path / "target").read_text() == "kept"
