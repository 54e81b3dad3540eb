"""Where a plan's script lies: paths as the original writes them, and none that leaves the share."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.domain.script_paths import ScriptPathError, same_share, script_place

SHARE = "\\\\vmm.tokyo.example\\MSCVMMLibrary"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("\\RPScripts\\check.py", "RPScripts/check.py"),
        ("RPScripts/check.py", "RPScripts/check.py"),
        ("/check.py", "check.py"),
        (" RPScripts\\\\check.py ", "RPScripts/check.py"),
        ("it's a file.sh", "it's a file.sh"),
    ],
)
def test_a_path_below_the_share_is_found_on_any(text: str, path: str) -> None:
    place = script_place(text, (SHARE,))
    assert (place.share, place.path) == (None, PurePosixPath(path))
    assert same_share(SHARE, place.share)


def test_a_path_may_begin_with_the_share_in_any_case() -> None:
    place = script_place("\\\\VMM.tokyo.example\\msCVMMLibrary\\a\\b.sh", ("\\\\other\\x", SHARE))
    assert place.path == PurePosixPath("a/b.sh")
    assert same_share(SHARE, place.share)
    assert not same_share("\\\\other\\x", place.share)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "names no file"),
        ("\\", "names no file"),
        ("../../etc/passwd", "leaves the library share"),
        ("a\\..\\..\\b", "leaves the library share"),
        ("./a", "leaves the library share"),
        ("C:\\windows\\a.ps1", "names a drive"),
        ("\\\\vmm.osaka.example\\MSCVMMLibrary\\a", "no share of this server's library"),
        ("\\\\vmm.tokyo.example\\MSCVMMLibraryEvil\\a", "no share of this server's library"),
        ("a\0b", "cannot be printed"),
        ("a\nb", "cannot be printed"),
        ("/".join("a" * 33), "deeper than"),
    ],
)
def test_what_names_no_file_of_the_library_is_refused(text: str, cause: str) -> None:
    with pytest.raises(ScriptPathError, match=cause):
        script_place(text, (SHARE,))


@given(st.text(max_size=80) | st.text(alphabet="./\\ab:", max_size=40))
def test_no_text_leads_out_of_the_share(text: str) -> None:
    try:
        place = script_place(text, (SHARE, "//x/y"))
    except ScriptPathError:
        return
    assert not place.path.is_absolute()
    assert not {"..", "."} & set(place.path.parts)
    assert place.path.parts
