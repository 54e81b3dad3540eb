"""The set-up's prerequisite checks, decided on facts (seed, step 3; behaviour 3.1)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wire_contract.vmm_service import NodeView

VMM_VERSION_MIN: Final = (3, 1)
"""System Center 2012 SP1 is 3.1; 2012 R2 is 3.2, 2016 is 4.0."""

UPDATE_ROLLUP_MIN: Final = 1
FREE_DISK_BYTES_MIN: Final = 1024**3
CLOCK_SECONDS_MAX: Final = 300.0
"""Beyond this difference deadlines lose their meaning (design: channel, deadlines)."""

_MEBIBYTE: Final = 1024**2
_VERSION: Final = re.compile(r"\d{1,6}(\.\d{1,6}){1,3}")


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was found, and what to do where it has not passed."""

    name: str
    passed: bool
    result: str
    remedy: str = ""

    def __str__(self) -> str:
        sign = "passed" if self.passed else "FAILED"
        remedy = "" if self.passed else f"; {self.remedy}"
        return f"{sign:6}  {self.name}: {self.result}{remedy}"


def check_vmm_version(version: str, update_rollup: int) -> Check:
    """Pass for System Center 2012 SP1 or later with an update rollup."""
    name, found = "VMM version", f"{version}, update rollup {update_rollup}"
    if _VERSION.fullmatch(version) is None:
        return Check(name, passed=False, result=found, remedy="no version: repair the VMM server")
    if tuple(int(part) for part in version.split(".")[:2]) < VMM_VERSION_MIN:
        remedy = "upgrade to System Center 2012 SP1 with an update rollup, or later"
        return Check(name, passed=False, result=found, remedy=remedy)
    if update_rollup < UPDATE_ROLLUP_MIN:
        remedy = "install the latest update rollup of VMM"
        return Check(name, passed=False, result=found, remedy=remedy)
    return Check(name, passed=True, result=found)


def check_service_account(account: str) -> Check:
    """Pass where the VMM service runs under an account that is known."""
    if account.strip():
        return Check("VMM service account", passed=True, result=account)
    return Check(
        "VMM service account",
        passed=False,
        result="unknown",
        remedy="give the VMM service an account in VMM's set-up",
    )


def check_disk_space(free_bytes: int, where: str) -> Check:
    """Pass with enough room for the journal, logs and an update."""
    return Check(
        "disk space",
        passed=free_bytes >= FREE_DISK_BYTES_MIN,
        result=f"{free_bytes // _MEBIBYTE} MiB free for {where}",
        remedy=f"free at least {FREE_DISK_BYTES_MIN // _MEBIBYTE} MiB there",
    )


def check_hub_reachable(url: str, by_way_of: str, failure: str | None) -> Check:
    """Pass where the hub has answered on this way."""
    return Check(
        "hub reachable",
        passed=failure is None,
        result=f"{url} answers {by_way_of}" if failure is None else failure,
        remedy="let this server reach that address, or give the proxy that does",
    )


def check_clock(skew_seconds: float) -> Check:
    """Pass where this server's clock agrees with the hub's; positive: this one is ahead."""
    direction = "ahead of" if skew_seconds > 0 else "behind"
    return Check(
        "clock",
        passed=abs(skew_seconds) <= CLOCK_SECONDS_MAX,
        result=f"{abs(skew_seconds):.0f} s {direction} the hub's",
        remedy=f"set this server's clock; at most {CLOCK_SECONDS_MAX:.0f} s are borne",
    )


def check_node_versions(
    nodes: Sequence[NodeView], this_node: str, version: str, *, upgrade: bool
) -> Check:
    """Pass where all other nodes have no provider yet, or the same; `upgrade`: they follow."""
    name = "provider version on all nodes"
    others = [node for node in nodes if node.fqdn != this_node]
    different = nodes_of_other_version(others, version)
    if not different:
        return Check(name, passed=True, result=f"{version} here, no other elsewhere")
    if upgrade:
        return Check(name, passed=True, result=f"{version} here; to be upgraded: {different}")
    return Check(
        name,
        passed=False,
        result=f"{version} here, but {different}",
        remedy="install the same version there; to upgrade all nodes one by one, give --upgrade",
    )


def nodes_of_other_version(nodes: Iterable[NodeView], version: str) -> str:
    """Return the nodes with a provider of another version, in words; empty: there is none."""
    return ", ".join(
        f"{node.fqdn} has {node.provider_version}"
        for node in nodes
        if node.provider_version not in {None, version}
    )


def refused(checks: Iterable[Check]) -> str:
    """Return the checks that have not passed, in one line; empty: set-up may go on."""
    return "; ".join(
        f"{check.name}: {check.result} ({check.remedy})" for check in checks if not check.passed
    )
