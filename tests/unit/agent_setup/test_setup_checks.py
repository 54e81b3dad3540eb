import pytest

from provider_agent.domain.addresses import Surroundings, needed_addresses, written_list
from provider_agent.domain.prerequisites import (
    FREE_DISK_BYTES_MIN,
    check_clock,
    check_disk_space,
    check_hub_reachable,
    check_node_versions,
    check_service_account,
    check_vmm_version,
    refused,
)
from wire_contract.vmm_service import NodeView


@pytest.mark.parametrize(
    ("version", "rollup", "passed"),
    [
        ("3.1.6011.0", 1, True),  # 2012 SP1
        ("3.2.7634.0", 9, True),  # 2012 R2
        ("4.0.1662.0", 1, True),  # 2016
        ("10.19.1013.0", 1, True),
        ("3.0.6005.0", 1, False),  # 2012
        ("2.9.9", 4, False),
        ("3.2.7634.0", 0, False),
        ("three", 1, False),
        ("", 1, False),
        ("3", 1, False),
        ("3.2\n", 1, False),
        ("9" * 5000 + ".1", 1, False),
    ],
)
def test_vmm_is_2012_sp1_or_later_with_an_update_rollup(
    version: str, rollup: int, passed: bool
) -> None:
    check = check_vmm_version(version, rollup)
    assert check.passed is passed
    assert passed or check.remedy


def test_the_service_account_is_known() -> None:
    assert check_service_account("CONTOSO\\vmm").passed
    assert not check_service_account("  ").passed


def test_the_disk_has_room() -> None:
    assert check_disk_space(FREE_DISK_BYTES_MIN, "/data").passed
    check = check_disk_space(FREE_DISK_BYTES_MIN - 1, "/data")
    assert not check.passed
    assert "/data" in check.result


@pytest.mark.parametrize(
    ("seconds", "passed"), [(0, True), (300, True), (-300, True), (301, False), (-3600, False)]
)
def test_the_clocks_agree_within_five_minutes(seconds: float, passed: bool) -> None:
    check = check_clock(seconds)
    assert check.passed is passed
    assert ("ahead of" in check.result) is (seconds > 0)


def test_a_hub_that_does_not_answer_is_told_in_its_own_words() -> None:
    assert check_hub_reachable("https://hub:9443", "directly", None).passed
    check = check_hub_reachable("https://hub:9443", "directly", "the proxy p:1 refused")
    assert (check.passed, check.result) == (False, "the proxy p:1 refused")


def test_other_nodes_have_the_same_version_or_none() -> None:
    nodes = [
        NodeView(fqdn="a", active=True, provider_version="0.0.9"),
        NodeView(fqdn="b", active=False, provider_version="0.1.0"),
        NodeView(fqdn="c", active=False),
    ]
    # This node's own former version does not matter: it is being replaced.
    assert check_node_versions(nodes, "a", "0.1.0", upgrade=False).passed
    check = check_node_versions(nodes, "b", "0.1.0", upgrade=False)
    assert not check.passed
    assert "a has 0.0.9" in check.result
    assert check_node_versions(nodes, "b", "0.1.0", upgrade=True).passed


def test_every_refusal_has_cause_and_remedy_in_one_line() -> None:
    checks = [check_vmm_version("3.0.1", 1), check_clock(0), check_service_account("")]
    words = refused(checks)
    assert "\n" not in words
    assert "3.0.1" in words
    assert "upgrade to System Center 2012 SP1" in words
    assert "clock" not in words
    assert refused([check_clock(0)]) == ""
    assert "FAILED" in str(checks[0])
    assert "FAILED" not in str(checks[1])


def test_the_list_names_what_server_and_hosts_must_reach() -> None:
    around = Surroundings(
        hub_url="https://hub.example:9443",
        vmm_url="https://vmm.example",
        nodes=["vmm-a", "vmm-b"],
        hosts=["host-1"],
        proxy="proxy.example:3128",
    )
    lines = {(each.source, each.host, each.port) for each in needed_addresses(around)}
    for node in ("vmm-a", "vmm-b"):
        assert (node, "proxy.example", 3128) in lines
        assert (node, "hub.example", 9443) in lines
        assert (node, "hub.example", 8883) in lines
        assert (node, "vmm.example", 443) in lines
    assert ("host-1", "every host of the partner cloud", 8084) in lines
    text = written_list(needed_addresses(around))
    assert text.count("->") == len(needed_addresses(around))
