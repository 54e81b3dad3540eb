import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.guest.manifest import (
    MANIFEST_BYTES,
    Manifest,
    ManifestError,
    RewriteFile,
    check_manifests,
    encode_manifest,
    parse_manifest,
)

MANIFEST = Manifest(
    seed=bytes(range(16)),
    disk=1,
    disks=2,
    record_path="/site-recovery/records.bin",
    record_slots=16,
    rewrites=(RewriteFile("/site-recovery/a.bin", 8192, "ab" * 32),),
    static_blake3="cd" * 32,
)


def changed(**fields: Any) -> bytes:
    document = json.loads(encode_manifest(MANIFEST)) | fields
    return json.dumps(document).encode()


def test_a_manifest_is_read_back_and_has_its_fixed_size() -> None:
    data = encode_manifest(MANIFEST)
    assert len(data) == MANIFEST_BYTES
    assert parse_manifest(data) == MANIFEST
    without = replace(MANIFEST, static_blake3=None)
    assert parse_manifest(encode_manifest(without)) == without


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"format": 2}, "format"),
        ({"seed": "zz" * 16}, "seed"),
        ({"seed": "ab"}, "seed"),
        ({"disk": 2}, "disk"),
        ({"disk": True}, "disk"),
        ({"disks": 0}, "disks"),
        ({"disks": 10**30}, "disks"),
        ({"records": None}, "records"),
        ({"records": {"path": "/r", "slots": 12}}, "slots"),
        ({"records": {"path": "/r", "slots": 1 << 40}}, "slots"),
        ({"records": {"path": "/r\nquit", "slots": 16}}, "path"),
        ({"records": {"path": "/r /etc", "slots": 16}}, "path"),
        ({"records": {"path": "/../r", "slots": 16}}, "path"),
        ({"records": {"path": "r", "slots": 16}}, "path"),
        ({"records": {"path": "/" + "r" * 300, "slots": 16}}, "path"),
        ({"rewrites": {}}, "rewrites"),
        ({"rewrites": [{}] * 65}, "rewrites"),
        ({"rewrites": [{"path": "/a", "size_bytes": 5000, "original_blake3": ""}]}, "size_bytes"),
        ({"rewrites": [{"path": "/a", "size_bytes": 4096, "original_blake3": 1}]}, "original"),
        (
            {"rewrites": [{"path": "/a", "size_bytes": 4096, "original_blake3": "ab" * 32}] * 2},
            "twice",
        ),
        ({"static_blake3": "AB" * 32}, "static_blake3"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ManifestError, match=named):
        parse_manifest(changed(**fields))


@pytest.mark.parametrize("data", [b"", b"[" * 10_000, b"[]", b"\xff", b" " * (MANIFEST_BYTES + 1)])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused_as_a_manifest(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(encode_manifest(MANIFEST)))), VALUES)
def test_a_field_of_any_shape_is_taken_or_refused(name: str, value: Any) -> None:
    try:
        parse_manifest(changed(**{name: value}))
    except ManifestError as error:
        assert str(error)  # noqa: PT017 -- a value may also happen to be right


def test_a_manifest_that_does_not_fit_is_refused() -> None:
    long = tuple(RewriteFile(f"/{'a' * 190}{n}", 4096, "ab" * 32) for n in range(64))
    with pytest.raises(ManifestError, match="needs"):
        encode_manifest(replace(MANIFEST, rewrites=long))


def test_the_disks_of_one_guest_must_all_be_there_in_order() -> None:
    first = replace(MANIFEST, disk=0)
    check_manifests([first, MANIFEST])
    for wrong in (
        [],
        [first],
        [MANIFEST, first],
        [first, first],
        [first, replace(MANIFEST, seed=bytes(16))],
        [first, replace(MANIFEST, record_slots=24)],
        [replace(first, rewrites=()), replace(MANIFEST, rewrites=())],
    ):
        with pytest.raises(ManifestError):
            check_manifests(wrong)
