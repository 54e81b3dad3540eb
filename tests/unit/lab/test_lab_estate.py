from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.estate import Estate, load_estate
from service_shell.errors import ProgramError

ROOT = Path(__file__).resolve().parents[3]
DEFAULT = ROOT / "deploy/lab/tokyo-osaka.yaml"

Change = Callable[[dict[str, Any]], None]


def default_content() -> dict[str, Any]:
    content = yaml.safe_load(DEFAULT.read_text())
    assert isinstance(content, dict)
    return content


def refusal(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "estate.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ProgramError) as caught:
        load_estate(path)
    return str(caught.value)


def test_every_estate_file_that_is_shipped_is_valid() -> None:
    files = sorted((ROOT / "deploy/lab").glob("*.yaml"))
    assert DEFAULT in files
    for file in files:
        assert load_estate(file).sites


def test_the_default_estate_is_what_the_story_needs() -> None:
    estate = load_estate(DEFAULT)
    assert [site.name for site in estate.sites] == ["tokyo", "osaka"]
    for site in estate.sites:
        assert len(site.clouds) == 1
        assert len(site.hosts) == 2
        assert site.networks
        assert site.classifications
    tokyo = estate.sites[0]
    assert [machine.running for machine in tokyo.machines] == [True, True, True]
    assert all(len(machine.disks) == 2 for machine in tokyo.machines)
    assert estate.pairings[0].protect == tuple(machine.name for machine in tokyo.machines)


def test_every_host_has_an_address_of_its_own_from_ten_on() -> None:
    addresses = load_estate(DEFAULT).host_addresses("127.64.3")
    assert list(addresses.values()) == [f"127.64.3.{number}" for number in (10, 11, 12, 13)]


def test_every_broker_has_an_address_of_its_own_after_the_hosts(tmp_path: Path) -> None:
    content = default_content()
    content["sites"][0]["clusters"] = [{"name": "one.example"}]
    content["sites"][1]["clusters"] = [{"name": "two.example", "broker": "other.example"}]
    path = tmp_path / "estate.yaml"
    path.write_text(yaml.safe_dump(content))
    assert load_estate(path).broker_addresses("127.64.3") == {
        "one-broker.example": "127.64.3.210",
        "other.example": "127.64.3.211",
    }
    content["sites"][1]["clusters"] = [{"name": "one.example"}]
    assert "cluster one.example stands twice" in refusal(tmp_path, content)


def test_identities_are_stable_and_differ_by_site_and_name() -> None:
    estate = load_estate(DEFAULT)
    again = load_estate(DEFAULT)
    assert estate.identity("tokyo", "machine", "web01") == again.identity(
        "tokyo", "machine", "web01"
    )
    named = {estate.identity(site, "machine", "web01") for site in ("tokyo", "osaka")}
    assert len(named) == 2


def _misspell(content: dict[str, Any]) -> None:
    content["sites"][0]["machnies"] = content["sites"][0].pop("machines")


def _unknown_host(content: dict[str, Any]) -> None:
    content["sites"][0]["machines"][0]["host"] = "hv09.tokyo.contoso.example"


def _host_of_no_cloud(content: dict[str, Any]) -> None:
    site = content["sites"][0]
    site["host_groups"].append("Spare")
    site["hosts"][0]["host_group"] = "Spare"


def _twin_machine(content: dict[str, Any]) -> None:
    machines = content["sites"][0]["machines"]
    machines[1]["name"] = machines[0]["name"].upper()


def _twin_host_on_two_sites(content: dict[str, Any]) -> None:
    content["sites"][1]["hosts"][0]["fqdn"] = content["sites"][0]["hosts"][0]["fqdn"]


def _pool_outside_its_subnet(content: dict[str, Any]) -> None:
    content["sites"][0]["ip_pools"][0]["last"] = "10.9.0.99"


def _paired_with_itself(content: dict[str, Any]) -> None:
    content["pairings"][0]["recovery"] = content["pairings"][0]["primary"]


def _protects_a_stranger(content: dict[str, Any]) -> None:
    content["pairings"][0]["protect"] = ["nobody"]


def _unknown_version(content: dict[str, Any]) -> None:
    content["sites"][0]["hosts"][0]["version"] = "2016"


def _store_of_a_stranger(content: dict[str, Any]) -> None:
    content["sites"][0]["stores"] = [
        {"name": "Volume", "capacity": "1GiB", "cluster": "cluster.tokyo.contoso.example"}
    ]


def _csv_without_cluster(content: dict[str, Any]) -> None:
    content["sites"][0]["stores"] = [{"name": "Volume", "capacity": "1GiB"}]


def _share_of_nobody(content: dict[str, Any]) -> None:
    content["sites"][0]["stores"] = [{"name": "Share", "kind": "SMB", "capacity": "1GiB"}]


def _machine_in_a_store_that_its_host_does_not_see(content: dict[str, Any]) -> None:
    site = content["sites"][0]
    hosts = ["hv02.tokyo.contoso.example"]
    site["stores"] = [{"name": "Share", "kind": "SMB", "capacity": "1GiB", "hosts": hosts}]
    site["machines"][0]["store"] = "Share"


def _no_cluster(content: dict[str, Any]) -> None:
    content["sites"][0]["hosts"][0]["cluster"] = "cluster.tokyo.contoso.example"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_misspell, ("machnies", "did you mean machines?")),
        (_unknown_host, ("machine web01", "hv09.tokyo.contoso.example", "there is hv01")),
        (_host_of_no_cloud, ("machine web01", "not in cloud Tokyo Cloud", "Spare")),
        (_twin_machine, ("machine WEB01 stands twice",)),
        (_twin_host_on_two_sites, ("host hv01.tokyo.contoso.example stands twice",)),
        (_pool_outside_its_subnet, ("10.9.0.99", "10.1.0.0/24")),
        (_paired_with_itself, ("the partner is on the same site",)),
        (_protects_a_stranger, ("there is no machine nobody", "app01, sql01, web01")),
        (_unknown_version, ("sites.0.hosts.0.version", "2012")),
        (_store_of_a_stranger, ("there is no cluster cluster.tokyo.contoso.example",)),
        (_csv_without_cluster, ("a CSV, and nothing else, belongs to a cluster",)),
        (_share_of_nobody, ("store Share: name the hosts that see it",)),
        (
            _machine_in_a_store_that_its_host_does_not_see,
            ("machine web01: host hv01.tokyo.contoso.example does not see Share",),
        ),
        (_no_cluster, ("there is no cluster cluster.tokyo.contoso.example; there is none",)),
    ],
)
def test_a_wrong_estate_is_refused_with_its_cause(
    tmp_path: Path, change: Change, words: tuple[str, ...]
) -> None:
    content = default_content()
    change(content)
    text = refusal(tmp_path, content)
    assert "estate.yaml" in text
    for word in words:
        assert word in text


def test_more_hosts_than_addresses_are_refused(tmp_path: Path) -> None:
    content = default_content()
    content["sites"][1]["hosts"] = [
        {"fqdn": f"h{number}.osaka.contoso.example", "host_group": "Osaka Hosts"}
        for number in range(200)
    ]
    assert "202 hosts; 200 are the most" in refusal(tmp_path, content)


@pytest.mark.parametrize("content", [[], {}, {"name": "x"}, {"name": "x", "sites": []}])
def test_what_is_no_estate_is_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    assert "\n" not in refusal(tmp_path, content)


def test_a_pairing_is_found_by_its_names() -> None:
    estate: Estate = load_estate(DEFAULT)
    site, cloud = estate.cloud("osaka/Osaka Cloud")
    assert (site.name, cloud.name) == ("osaka", "Osaka Cloud")
    assert [host.fqdn for host in site.hosts_of(cloud)] == [
        "hv01.osaka.contoso.example",
        "hv02.osaka.contoso.example",
    ]
