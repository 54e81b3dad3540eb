"""The official SDK over TLS against the real engine: networks that a plan cannot be tested in."""

from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.recoveryservicessiterecovery import models as m

from tests.integration.test_arm_sdk_plans import OSAKA, PLAN, TOKYO, boot, save
from tests.support.sdk_desk import desk


async def test_a_test_network_of_a_plan_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        plans = hub.client.replication_recovery_plans
        await save(hub, boot(1, 2))
        cases = {
            ("VmNetworkAsInput", f"{OSAKA}/replicationNetworks/none"): "7004",
            ("VmNetworkAsInput", f"{TOKYO}/replicationNetworks/none"): "must be one of the server",
            ("VmNetworkAsInput", None): "needs the id of a VM network",
            ("LogicalNetworkAsInput", None): "needs the id of a logical network",
            ("LogicalNetworkAsInput", f"{OSAKA}/replicationLogicalNetworks/l"): "No machine of",
        }
        for (kind, network), words in cases.items():
            wanted = m.RecoveryPlanTestFailoverInput(
                properties=m.RecoveryPlanTestFailoverInputProperties(
                    failover_direction="PrimaryToRecovery", network_type=kind, network_id=network
                )
            )
            with pytest.raises(HttpResponseError, match=words):
                await plans.begin_test_failover(*PLAN, wanted)
        shown: Any = (await plans.get(*PLAN)).properties
        assert shown.current_scenario is None
