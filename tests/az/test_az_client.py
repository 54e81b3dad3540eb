"""The unmodified azure-cli against a real hub (docs/az.md); run by `make test-az` alone."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.operators import as_role
from tests.support.real_hub import HOST, RealHub, real_hub

SECONDS_MAX = 300
SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
VAULT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.RecoveryServices"
    "/vaults/prod"
)
POLICY = {"properties": {"providerSpecificInput": {"instanceType": "HyperVReplica2012R2"}}}
API = "api-version=2025-08-01"


def az(environment: Mapping[str, str], *words: str) -> Any:
    done = subprocess.run(
        [os.environ["AZ"], *words, "--output", "json"],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, (words[:2], done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def account_of(hub: RealHub) -> dict[str, Any]:
    body = {"name": "az", "grants": [{"role": "Contributor"}]}
    made = as_role(hub, "Owner", "otto").operator("POST", "/hub/v1/service-accounts", body)
    assert made.code == 201, made
    content: dict[str, Any] = made.content
    return content


@pytest.mark.timeout(900)
def test_az_registers_logs_in_and_asks(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with real_hub(tmp_path, free_port) as hub:
        root = tmp_path / "root.pem"
        root.write_text(hub.root_pem)
        environment = {
            **os.environ,
            "AZURE_CONFIG_DIR": str(tmp_path / "azure"),
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "REQUESTS_CA_BUNDLE": str(root),
            "NO_PROXY": HOST,
        }
        url = hub.settings.public_url
        made = hub.operator("PUT", f"{VAULT}?api-version=2024-04-01", {"location": "local"})
        assert made.code == 201, made
        account = account_of(hub)
        tenant = hub.operator("GET", "/metadata/endpoints").content["authentication"]["tenant"]
        az(environment, "cloud", "register", "--name", "Hub", "--endpoint-resource-manager", url)
        az(environment, "cloud", "set", "--name", "Hub")
        login = ("--username", account["client_id"], "--password", account["client_secret"])
        az(environment, "login", "--service-principal", *login, "--tenant", tenant)
        vaults = az(environment, "backup", "vault", "list")
        assert [each["name"] for each in vaults] == ["prod"]
        policy = f"{VAULT}/replicationPolicies/gold?{API}"
        body = json.dumps(POLICY)
        az(environment, "rest", "--method", "put", "--url", policy, "--body", body)
        jobs = az(environment, "rest", "--method", "get", "--url", f"{VAULT}/replicationJobs?{API}")
        assert [each["properties"]["scenarioName"] for each in jobs["value"]] == [
            "AddProtectionProfile"
        ]
        assert not hub.failures
