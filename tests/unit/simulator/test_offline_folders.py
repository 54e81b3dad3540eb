from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.vmm_inventories import ALONE, host
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.estate_records import FileShareRecord
from vmm_simulator.vmm.offline_folders import (
    OPERATOR_GROUPS,
    offline_folder,
    offline_problems,
    real_folder,
    share_of,
)
from vmm_simulator.vmm.records import HostRecord

ACCOUNT = "CONTOSO\\vmm-service"
UNC = "\\\\files.example\\export"
READY = FileShareRecord(
    unc=UNC,
    folder="/srv/export",
    server="files.example",
    full_control=(ACCOUNT,),
    share_full_control=(ACCOUNT,),
    server_groups={"Administrators": (ACCOUNT,)},
    read_write=("fabric-account",),
)
HOST = host(ALONE, delegations=("cifs/files.example",), run_as_account="fabric-account")


def problems(
    share: FileShareRecord = READY, using: HostRecord = HOST, **around: Any
) -> tuple[str, ...]:
    given_ = {"service_account": ACCOUNT, "all_hosts": (ALONE, "other.example"), **around}
    return tuple(offline_problems(share, using_hosts=[using], **given_))


def share(**changes: Any) -> FileShareRecord:
    return READY.model_copy(update=changes)


@pytest.mark.parametrize("group", OPERATOR_GROUPS)
def test_one_of_four_groups_is_enough(group: str) -> None:
    assert not problems(share(server_groups={group.upper(): (ACCOUNT.lower(),)}))


@pytest.mark.parametrize(
    ("changed", "using", "said"),
    [
        ({"full_control": ()}, {}, f"give {ACCOUNT} full control (NTFS) of /srv/export"),
        ({"full_control": ("else",)}, {}, f"give {ACCOUNT} full control (NTFS) of /srv/export"),
        ({"share_full_control": ()}, {}, f"give {ACCOUNT} full control of the share {UNC}"),
        (
            {"server_groups": {"Users": (ACCOUNT,), "Administrators": ("else",)}},
            {},
            (
                f"make {ACCOUNT} a member of Administrators, Power Users, Print Operators or"
                " Server Operators on files.example"
            ),
        ),
        (
            {"server": "Other.example"},
            {"delegations": ("cifs/other.example",)},
            (
                "Other.example is a Hyper-V host, and Hyper-V has no loopback: put the share on a"
                " computer that is none"
            ),
        ),
        (
            {"read_write": ()},
            {},
            f"give RunAs account fabric-account (host {ALONE}) read and write on {UNC}",
        ),
        (
            {},
            {"delegations": ("http/files.example", "cifs/else.example")},
            f"trust host {ALONE} for constrained delegation to cifs/files.example",
        ),
        (
            {},
            {"delegations": ("cifs/files.example",), "further": ("Else.example",)},
            f"trust host {ALONE} for constrained delegation to cifs/else.example",
        ),
    ],
)
def test_each_precondition_is_missed_alone(
    changed: dict[str, Any], using: dict[str, Any], said: str
) -> None:
    further = using.pop("further", ()) if "further" in using else ()
    own = HOST.model_copy(update=using)
    assert problems(share(**changed), own, further_servers=further) == (said,)


def test_a_host_that_no_run_as_account_added_needs_none() -> None:
    own = HOST.model_copy(update={"run_as_account": None})
    assert not problems(share(read_write=()), own)


def test_a_folder_that_is_fit_is_given_and_another_refused_with_everything() -> None:
    around: dict[str, Any] = {"service_account": ACCOUNT, "all_hosts": (ALONE,)}
    assert offline_folder(f"{UNC}\\web01", [READY], using_hosts=[HOST], **around) == READY
    bare = share(full_control=(), share_full_control=())
    with pytest.raises(RefusedError, match=r"\(NTFS\).*; give .* of the share") as refusal:
        offline_folder(UNC, [bare], using_hosts=[HOST], **around)
    assert refusal.value.code == Code.OFFLINE_FOLDER
    with pytest.raises(RefusedError, match="there is no share for"):
        offline_folder("\\\\files.example\\exportx", [READY], using_hosts=[HOST], **around)


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        (UNC, "/srv/export"),
        (f"{UNC}\\Web01\\disks", "/srv/export/Web01/disks"),
        (UNC.upper() + "\\x", "/srv/export/x"),
        (f"{UNC}\\..\\other", None),
        ("\\\\files.example\\exports", None),
        ("/srv/export", None),
        ("", None),
    ],
)
def test_a_path_below_a_share_is_a_real_folder(path: str, folder: str | None) -> None:
    found = share_of(path, [READY])
    assert (found is None) is (folder is None)
    if folder is None:
        with pytest.raises(RefusedError):
            real_folder(path, READY)
    else:
        assert real_folder(path, READY) == PurePosixPath(folder)


def test_the_share_with_the_longest_name_holds_a_path() -> None:
    inner = share(unc=f"{UNC}\\inner", folder="/inner")
    assert share_of(f"{UNC}\\inner\\x", [READY, inner]) == inner
    assert share_of(f"{UNC}\\x", [inner, READY]) == READY


@given(st.text(alphabet="\\.a/", max_size=30))
def test_no_path_leaves_its_share(rest: str) -> None:
    try:
        folder = real_folder(f"{UNC}\\{rest}", READY)
    except RefusedError:
        return
    assert ".." not in folder.parts
    assert folder.is_relative_to("/srv/export")
