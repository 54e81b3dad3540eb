import fcntl
import os
from pathlib import Path

import pytest

from vmm_simulator.guest import locks
from vmm_simulator.guest.locks import ImageLockedError, images_locked, lock_images


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "0.raw", tmp_path / "1.raw"]
    for path in paths:
        path.write_bytes(b"disk")
    return paths


def opened(paths: list[Path]) -> list[int]:
    return [os.open(path, os.O_RDONLY) for path in paths]


def closed(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def test_images_are_locked_while_one_holder_lives(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOCK_SECONDS_MAX", 0.05)
    assert not images_locked(images)
    first, second = opened(images), opened(images)
    lock_images(first, images)
    assert images_locked(images)
    assert images_locked(images[1:])
    with pytest.raises(ImageLockedError, match=r"0\.raw"):
        lock_images(second, images)
    closed(first)
    assert not images_locked(images)
    lock_images(second, images)
    closed(second)


def test_who_only_asks_is_not_taken_for_a_guest(images: list[Path]) -> None:
    asking = opened(images)
    fcntl.flock(asking[0], fcntl.LOCK_SH)
    assert not images_locked(images)
    closed(asking)


def test_a_missing_image_is_locked_by_nobody(tmp_path: Path) -> None:
    assert not images_locked([tmp_path / "none.raw"])
