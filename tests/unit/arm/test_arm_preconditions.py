"""If-Match: who has seen another version changes nothing; what has no versions says so."""

from typing import Any

import pytest

from tests.unit.arm.conftest import PLANNED, Surface, error_of

OTHER = {"If-Match": '"0000000000000000"'}
INFO = {"properties": {"integrityKey": "a2V5", "algorithm": "None"}}


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        ("PUT", {"json": {"location": "japaneast", "tags": {"a": "b"}}}),
        ("PATCH", {"json": {"tags": {"a": "b"}}}),
        ("DELETE", {}),
    ],
)
async def test_a_vault_seen_at_another_version_stays_as_it_is(
    surface: Surface, method: str, sent: dict[str, Any]
) -> None:
    before = await surface.body(surface.vault)
    status, error = await error_of(surface, method, surface.vault, headers=OTHER, **sent)
    assert (status, error["code"]) == (412, "PreconditionFailed")
    assert before["etag"] in error["message"]
    assert await surface.body(surface.vault) == before


async def test_a_vault_seen_as_it_is_is_changed_and_has_a_new_version(surface: Surface) -> None:
    seen = (await surface.body(surface.vault))["etag"]
    for etag in (f'"other", {seen}', "*"):
        answer = await surface.ask(
            "PATCH", surface.vault, json={"tags": {etag[:3]: "b"}}, headers={"If-Match": etag}
        )
        assert answer.status == 200
    assert (await answer.json())["etag"] != seen


async def test_no_version_of_what_is_not_there_matches(surface: Surface) -> None:
    path = surface.vault.replace("E2ETest", "Another")
    status, error = await error_of(
        surface, "PUT", path, json={"location": "japaneast"}, headers=OTHER
    )
    assert (status, error["code"]) == (412, "PreconditionFailed")
    assert (await surface.ask("GET", path)).status == 404


async def test_a_resource_without_versions_refuses_to_compare_them(surface: Surface) -> None:
    path = f"{surface.item}/plannedFailover"
    status, error = await error_of(surface, "POST", path, json=PLANNED, headers=OTHER)
    assert (status, error["code"]) == (412, "PreconditionFailed")
    assert "without If-Match" in error["message"]
    assert surface.hub.jobs == {}
    taken = await surface.ask("POST", path, json=PLANNED, headers={"If-Match": "*"})
    assert taken.status == 202


async def test_extended_information_is_kept_changed_and_compared(surface: Surface) -> None:
    path = f"{surface.vault}/extendedInformation/vaultExtendedInfo"
    assert (await surface.ask("GET", path)).status == 404
    made = await (await surface.ask("PUT", path, json=INFO)).json()
    assert made == await surface.body(path)
    assert made["properties"] == INFO["properties"]
    assert made["type"] == "Microsoft.RecoveryServices/vaults/extendedInformation"
    change = {"properties": {"encryptionKeyThumbprint": "AB"}}
    etag = {"If-Match": made["etag"]}
    changed = await (await surface.ask("PATCH", path, json=change, headers=etag)).json()
    assert changed["properties"] == INFO["properties"] | change["properties"]
    status, _ = await error_of(surface, "PUT", path, json=INFO, headers=etag)
    assert status == 412
    replaced = await (await surface.ask("PUT", path, json=change)).json()
    assert replaced["properties"] == change["properties"]
