"""What a pair of clouds must be before it is prepared: each reason, and all of them at once."""

from datetime import UTC, datetime
from typing import Any

import pytest

from service_hub.domain import errors
from service_hub.domain.cloud_readiness import CloudEnd, refusal_of_unready, unready
from tests.support.site_views import MACHINE_ID, inventory, machine
from wire_contract.vmm_interface import ClusterView
from wire_contract.vocabulary import Side

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SITES = {Side.PRIMARY: "tokyo", Side.RECOVERY: "osaka"}
CLUSTER = "cluster1.example"


def ends(side: Side, **changes: Any) -> dict[Side, CloudEnd]:
    """Return two clouds that are ready, but for these changes of one."""
    result = {}
    for each, site in SITES.items():
        machines = (machine(MACHINE_ID, site),) if each is Side.PRIMARY else ()
        view = inventory(site, machines)
        given = changes if each is side else {}
        cloud = view.clouds[0].model_copy(update=given.get("cloud", {}))
        parts = {
            "hosts": (view.hosts[0].model_copy(update=given.get("host", {})),),
            "host_groups": (view.host_groups[0].model_copy(update=given.get("group", {})),),
            "clusters": given.get("clusters", ()),
        }
        result[each] = CloudEnd(cloud, view.model_copy(update=parts))
    return result


STATIC = ClusterView(name=CLUSTER, addressing="Static")
DHCP = ClusterView(name=CLUSTER, addressing="DHCP")
IN_CLUSTER = {"cluster": CLUSTER}

REASONS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"cloud": {"capability_profile": "ESX Server"}},
        errors.NO_HYPERV_PROFILE,
        "capability profile 'ESX Server'",
    ),
    ({"cloud": {"host_group_ids": ()}}, errors.NO_HOST_GROUP, "has no host group"),
    (
        {"group": {"host_count": 0, "machine_count": 0}},
        errors.EMPTY_HOST_GROUP,
        r"All Hosts\Hosts of the cloud",
    ),
    ({"host": {"version": "2008R2"}}, errors.HOST_VERSION, "2012 or 2012 R2 is needed"),
    (
        {"host": IN_CLUSTER, "clusters": (STATIC,)},
        errors.NO_BROKER,
        "static addresses and no Hyper-V Replica Broker",
    ),
    ({"host": IN_CLUSTER}, errors.NO_BROKER, "does not know the cluster"),
]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(("changes", "code", "words"), REASONS)
def test_each_reason_is_said_of_each_cloud(
    side: Side, changes: dict[str, Any], code: str, words: str
) -> None:
    (reason,) = unready(ends(side, **changes))
    assert (reason.code, reason.cloud) == (code, f"{SITES[side]} cloud")
    assert words in reason.words
    error = refusal_of_unready(ends(side, **changes), NOW)
    assert error is not None
    assert error.code == code
    assert f"{SITES[side]} cloud" in error.message
    assert words in error.possible_causes
    assert error.recommended_action.endswith("Refresh the server, then restart this job.")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"host": {"version": "2012"}},
        {"host": IN_CLUSTER, "clusters": (DHCP,)},
        {
            "host": IN_CLUSTER,
            "clusters": (STATIC.model_copy(update={"broker": "broker.example"}),),
        },
    ],
)
@pytest.mark.parametrize("side", Side)
def test_nothing_speaks_against_these(side: Side, changes: dict[str, Any]) -> None:
    assert unready(ends(side, **changes)) == []
    assert refusal_of_unready(ends(side, **changes), NOW) is None


def test_a_source_has_machines_in_every_group_and_a_target_may_be_empty() -> None:
    (reason,) = unready(ends(Side.PRIMARY, group={"machine_count": 0}))
    assert reason.code == errors.EMPTY_HOST_GROUP
    assert "has no virtual machine" in reason.words
    assert unready(ends(Side.RECOVERY, group={"machine_count": 0})) == []


def test_groups_of_other_clouds_do_not_matter() -> None:
    other = {"host_group_id": "of another cloud", "host_count": 0}
    assert unready(ends(Side.PRIMARY, group=other)) == []


def test_several_reasons_are_one_error_that_names_them_all() -> None:
    both = ends(Side.PRIMARY, cloud={"capability_profile": "", "host_group_ids": ()})
    both[Side.RECOVERY] = ends(Side.RECOVERY, host={"version": "2008"})[Side.RECOVERY]
    error = refusal_of_unready(both, NOW)
    assert error is not None
    assert error.code == errors.NOT_READY
    assert error.message == "The cloud osaka cloud and tokyo cloud isn't ready for protection."
    assert error.possible_causes.count(";") == 2
