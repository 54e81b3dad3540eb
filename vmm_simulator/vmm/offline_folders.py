"""Whether a folder can be used for offline replication: the preconditions, checked; pure.

Source: seed, step 4, preparing for offline initial replication; behaviour 2.2 "Offline paths".
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.estate_records import FileShareRecord
from vmm_simulator.vmm.records import HostRecord

OPERATOR_GROUPS: Final = (
    "Administrators",
    "Power Users",
    "Print Operators",
    "Server Operators",
)
"""Groups of the share's computer, one of which the VMM service account must be in."""


def offline_folder(
    path: str,
    shares: Iterable[FileShareRecord],
    *,
    service_account: str,
    using_hosts: Iterable[HostRecord],
    all_hosts: Iterable[str],
    further_servers: Iterable[str] = (),
) -> FileShareRecord:
    """Return the share that a path names, fit for export or import, or refuse (91012).

    `path` is the UNC name of a share or a folder below one; `using_hosts` are the hosts whose
    machines are exported or imported, `all_hosts` the names of every Hyper-V host, and
    `further_servers` the other computers that these hosts are to trust: the one that the copy is
    imported from. The refusal names everything that is missing, each with its remedy.
    """
    share = share_of(path, shares)
    if share is None:
        raise RefusedError(
            Code.OFFLINE_FOLDER,
            f"there is no share for {path} that VMM knows",
            "add the share with its permissions, or choose one of those that are there",
        )
    problems = tuple(
        offline_problems(
            share,
            service_account=service_account,
            using_hosts=using_hosts,
            all_hosts=all_hosts,
            further_servers=further_servers,
        )
    )
    if problems:
        raise RefusedError(
            Code.OFFLINE_FOLDER,
            f"the folder {path} cannot be used for offline replication: " + "; ".join(problems),
            "correct what is named, then ask again",
        )
    return share


def share_of(path: str, shares: Iterable[FileShareRecord]) -> FileShareRecord | None:
    """Return the share that holds a UNC path, the one with the longest name first."""
    wanted = _parts(path)
    for share in sorted(shares, key=lambda each: len(_parts(each.unc)), reverse=True):
        name = _parts(share.unc)
        if name and wanted[: len(name)] == name and _stays_below(wanted):
            return share
    return None


def real_folder(path: str, share: FileShareRecord) -> PurePosixPath:
    """Return where the files of a UNC path below a share really are."""
    wanted, name = _parts(path), _parts(share.unc)
    if wanted[: len(name)] != name or not _stays_below(wanted):
        raise RefusedError(Code.OFFLINE_FOLDER, f"{path} does not lie below {share.unc}")
    # The names below keep their case: the folder is a real one.
    below = [each for each in path.split("\\") if each][len(name) :]
    return PurePosixPath(share.folder, *below)


def offline_problems(
    share: FileShareRecord,
    *,
    service_account: str,
    using_hosts: Iterable[HostRecord],
    all_hosts: Iterable[str],
    further_servers: Iterable[str] = (),
) -> Iterator[str]:
    """Give what is missing for a share, one sentence each with its remedy."""
    account = service_account.lower()
    if account not in _lower(share.full_control):
        yield f"give {service_account} full control (NTFS) of {share.folder}"
    if account not in _lower(share.share_full_control):
        yield f"give {service_account} full control of the share {share.unc}"
    groups = {name.lower(): _lower(members) for name, members in share.server_groups.items()}
    if not any(account in groups.get(group.lower(), ()) for group in OPERATOR_GROUPS):
        yield (
            f"make {service_account} a member of {', '.join(OPERATOR_GROUPS[:-1])} or"
            f" {OPERATOR_GROUPS[-1]} on {share.server}"
        )
    if share.server.lower() in _lower(all_hosts):
        yield (
            f"{share.server} is a Hyper-V host, and Hyper-V has no loopback: put the share on a"
            " computer that is none"
        )
    servers = dict.fromkeys(name.lower() for name in (share.server, *further_servers))
    for host in sorted(using_hosts, key=lambda each: each.fqdn):
        run_as = host.run_as_account
        if run_as is not None and run_as.lower() not in _lower(share.read_write):
            yield f"give RunAs account {run_as} (host {host.fqdn}) read and write on {share.unc}"
        for server in servers:
            if f"cifs/{server}" not in _lower(host.delegations):
                yield f"trust host {host.fqdn} for constrained delegation to cifs/{server}"


def _parts(path: str) -> tuple[str, ...]:
    if not path.startswith("\\\\"):
        return ()
    return tuple(each.lower() for each in path.split("\\") if each)


def _stays_below(parts: tuple[str, ...]) -> bool:
    """Whether no part leads elsewhere once the path is a folder of this system."""
    return not any(each in {".", ".."} or "/" in each or "\0" in each for each in parts)


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)
