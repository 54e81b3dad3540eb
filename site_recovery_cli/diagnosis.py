"""What `site-recovery doctor` makes of what it sees: findings with remedies; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

CLOCKS_APART_MAX: Final = timedelta(minutes=5)
"""Hub, servers and whoever signs must agree to this (docs/operating.md, "Clocks")."""

CERTIFICATE_SOON: Final = timedelta(days=14)
ROOT_SOON: Final = timedelta(days=60)
TOKEN_SOON: Final = timedelta(hours=1)
JOB_LONG: Final = timedelta(hours=1)


class Verdict(StrEnum):
    """How a step ended; a warning is for later, a failure for now."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Finding:
    """One step: what was seen, and what to do about it."""

    step: str
    verdict: Verdict
    detail: str
    remedy: str = ""

    @property
    def row(self) -> dict[str, str]:
        """The finding as it is printed."""
        return {
            "step": self.step,
            "state": self.verdict.value,
            "detail": self.detail,
            "remedy": self.remedy,
        }


def of_certificate(step: str, ends: datetime, now: datetime, remedy: str) -> Finding:
    """Judge how long a certificate holds on; a root is replaced long before it ends."""
    soon = ROOT_SOON if step == "root" else CERTIFICATE_SOON
    left, detail = ends - now, f"ends {ends:%Y-%m-%d}"
    if left <= timedelta(0):
        return Finding(step, Verdict.FAILED, f"ended {ends:%Y-%m-%d}", remedy)
    if left < soon:
        return Finding(step, Verdict.WARNING, f"{detail}, in {left.days} days", remedy)
    return Finding(step, Verdict.OK, detail)


def of_clock(here: datetime, hub: datetime | None) -> Finding:
    """Compare this machine's time with the hub's."""
    if hub is None:
        return Finding(
            "clock",
            Verdict.WARNING,
            "the hub's answer has no time",
            "see that nothing between here and the hub changes its answers",
        )
    apart = abs(here - hub)
    seconds = round(apart.total_seconds())
    if apart <= CLOCKS_APART_MAX:
        return Finding("clock", Verdict.OK, f"{seconds} s apart")
    way = "ahead of" if here > hub else "behind"
    return Finding(
        "clock",
        Verdict.FAILED,
        f"this machine is {seconds} s {way} the hub",
        "synchronise both clocks (NTP)",
    )


def of_token(ends: datetime | None, now: datetime, *, renews: bool, login: str) -> Finding:
    """Judge a token that the hub has just taken."""
    if ends is None:
        return Finding("token", Verdict.OK, "taken by the hub")
    detail = f"taken by the hub; ends {ends:%Y-%m-%dT%H:%M:%SZ}"
    if renews or ends - now > TOKEN_SOON:
        return Finding("token", Verdict.OK, f"{detail}, renewed by itself" if renews else detail)
    return Finding("token", Verdict.WARNING, detail, f"log in again soon: {login}")


def of_version(hub: str | None, here: str) -> Finding:
    """Compare the versions of both ends."""
    if hub == here:
        return Finding("version", Verdict.OK, here)
    return Finding(
        "version",
        Verdict.WARNING,
        f"the hub is {hub or 'of an unknown version'}, this command line {here}",
        "bring both to the same version: commands may miss, or ask for what the hub lacks",
    )


def of_servers(vault: str, servers: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Judge whether the servers of a vault are heard."""
    silent = [each for each in servers if each.get("connected") is not True]
    step = f"servers of {vault}"
    if not silent:
        return [Finding(step, Verdict.OK, f"{len(servers)} connected")]
    return [
        Finding(
            step,
            Verdict.FAILED,
            f"{each.get('friendly_name')} is not connected,"
            f" last heard {each.get('last_contact_at') or 'never'}",
            "run on that server: provider-agent doctor --config FILE",
        )
        for each in silent
    ]


def of_jobs(vault: str, waiting: Sequence[Mapping[str, Any]], now: datetime) -> list[Finding]:
    """Judge the jobs of a vault that have not ended: which have taken long, and wait for what."""
    jobs = [each for each in waiting if each.get("kind") == "job"]
    slow = [each for each in jobs if now - (_moment(each.get("since")) or now) > JOB_LONG]
    step = f"jobs of {vault}"
    if not slow:
        return [Finding(step, Verdict.OK, f"{len(jobs)} under way, none for longer than an hour")]
    return [
        Finding(
            step,
            Verdict.WARNING,
            f"{each.get('name')}: {each.get('waiting_for')}",
            f"see: site-recovery job show {each.get('id')}",
        )
        for each in slow
    ]


def of_hub(state: Mapping[str, Any]) -> Finding:
    """Judge what the hub says of itself."""
    still = state.get("jobs_standing_still")
    name = str(state.get("hub_name") or "the hub")
    if isinstance(still, int) and still > 0:
        return Finding(
            "hub",
            Verdict.FAILED,
            f"{still} jobs stand still at {name}: their events cannot be decided on",
            "look for the cause in its log (job_quarantined); a newer hub of the database goes on",
        )
    return Finding("hub", Verdict.OK, f"{name} answers")


def _moment(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
