from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lab.addresses import free_ports
from lab.estate import Estate, load_estate
from lab.layout import Layout
from lab.relay import RelaySettings
from lab.site_files import (
    HubPorts,
    SitePlan,
    SitePorts,
    agent_configuration,
    hub_configuration,
    relay_configuration,
    simulator_configuration,
    write_configuration,
    write_tokens,
)
from provider_agent.config import AgentSettings
from service_shell.configuration import load_configuration
from vmm_simulator.config import SimulatorSettings
from vmm_simulator.seed import first_inventory

ROOT = Path(__file__).resolve().parents[3]
ESTATE: Estate = load_estate(ROOT / "deploy/lab/tokyo-osaka.yaml")


def site_plan(layout: Layout, number: int, estate: Estate = ESTATE) -> SitePlan:
    site = estate.sites[number]
    images = {
        machine.name: tuple(
            layout.root / f"{machine.name}-{disk.name}.img" for disk in machine.disks
        )
        for machine in site.machines
    }
    vmm, management = free_ports("127.0.0.1", 2)
    return SitePlan(
        estate=estate,
        site=site,
        folder=layout.site(site.name),
        address="127.0.0.1",
        ports=SitePorts(vmm, management),
        disk_images=images,
        extra_disks={},
    )


def load_simulator(plan: SitePlan, layout: Layout) -> SimulatorSettings:
    write_configuration(plan.vmm_config, simulator_configuration(plan, layout))
    return load_configuration(plan.vmm_config, SimulatorSettings)


def test_every_simulator_accepts_what_the_lab_writes(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    tokyo, osaka = (load_simulator(site_plan(layout, number), layout) for number in (0, 1))
    assert [machine.name for machine in tokyo.inventory.machines] == ["web01", "sql01", "app01"]
    assert osaka.inventory.machines == ()
    assert tokyo.replication.interval_seconds == ESTATE.replication_interval_seconds
    assert {tokyo.vmm.id, osaka.vmm.id} == {
        ESTATE.identity("tokyo", "vmm"),
        ESTATE.identity("osaka", "vmm"),
    }
    vlan = next(each for each in tokyo.inventory.networks if each.type == "VLANNetwork")
    assert vlan.subnets[0].address_list == ("10.1.9.0/24-9 0",)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deploy/lab").glob("*.yaml")), ids=lambda it: it.name
)
def test_no_rule_of_vmm_is_broken_by_an_estate_that_is_shipped(tmp_path: Path, file: Path) -> None:
    layout, estate = Layout.at(tmp_path), load_estate(file)
    for number in range(len(estate.sites)):
        plan = site_plan(layout, number, estate)
        for images in plan.disk_images.values():
            for image in images:
                image.touch()
        inventory = first_inventory(load_simulator(plan, layout))
        assert len(inventory.machines) == len(plan.site.machines)
        assert len(inventory.fabric.stores) == len(plan.site.stores)


def test_the_agent_accepts_what_the_lab_writes(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    plan = site_plan(layout, 0)
    write_configuration(plan.agent_config, agent_configuration(plan, layout))
    settings = load_configuration(plan.agent_config, AgentSettings)
    assert settings.vmm.url == plan.vmm_url
    assert settings.vmm.token_file == plan.token_file("vmm")


def test_the_users_own_image_becomes_a_further_disk(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    plan = replace(site_plan(layout, 0), extra_disks={"web01": tmp_path / "own.img"})
    machines = {each.name: each for each in load_simulator(plan, layout).inventory.machines}
    assert [disk.kind for disk in machines["web01"].disks] == ["OperatingSystem", "Data", "Data"]
    assert machines["web01"].disks[2].path == tmp_path / "own.img"
    assert len(machines["sql01"].disks) == 2


def test_tokens_are_secret_and_differ(tmp_path: Path) -> None:
    plan = site_plan(Layout.at(tmp_path), 0)
    write_tokens(plan)
    files = [plan.token_file("vmm"), plan.token_file("management")]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert len({path.read_bytes() for path in files}) == 2


def test_no_secret_stands_in_a_configuration(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    plan = site_plan(layout, 0)
    write_tokens(plan)
    write_configuration(plan.vmm_config, simulator_configuration(plan, layout))
    write_configuration(plan.agent_config, agent_configuration(plan, layout))
    for which in ("vmm", "management"):
        token = plan.token_file(which).read_text()
        assert token not in plan.vmm_config.read_text()
        assert token not in plan.agent_config.read_text()


def test_every_address_of_the_hub_is_on_the_estates_network(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    content = hub_configuration(ESTATE, layout, "127.64.9.1", HubPorts(1, 2, 3))
    text = yaml.safe_dump(content)
    assert content["public_url"] == "https://127.64.9.1:1"
    assert content["mqtt"]["port"] == 3
    assert "0.0.0.0" not in text


def test_providers_of_a_relayed_estate_reach_the_hub_through_the_relay_alone(
    tmp_path: Path,
) -> None:
    layout = Layout.at(tmp_path)
    https, mqtt, line = free_ports("127.0.0.1", 3)
    plan = site_plan(layout, 0)
    plan = replace(plan, ports=replace(plan.ports, line=line))
    write_configuration(plan.agent_config, agent_configuration(plan, layout))
    agent = load_configuration(plan.agent_config, AgentSettings)
    assert agent.proxy is not None
    assert (agent.proxy.mode, agent.proxy.port) == ("custom", line)
    # Over WebSocket events would come all the same where MQTT alone is cut.
    assert agent.mqtt.transport == "tls"
    config = layout.relay / "relay.yaml"
    ports = HubPorts(operator=1, provider=https, mqtt=mqtt)
    write_configuration(config, relay_configuration(layout, "127.0.0.1", ports, [plan]))
    relay = load_configuration(config, RelaySettings)
    assert relay.sites == {"tokyo": line}
    assert relay.hub == {"https": https, "mqtt": mqtt}
