"""Every metric of a run, with its goal."""

from typing import Final

from benchmarks.channel.figures import Metric

MACHINES: Final = 20
SPARSE: Final = "1 TiB sparse disk"

_LISTED: Final = (
    Metric("full copy", None, "s", None, "lower"),
    Metric("full copy: processor, both ends", None, "s", None, "lower"),
    Metric("full copy: nbdcopy, TLS, 4 connections / ours", None, "x", 0.9, "higher"),
    Metric("full copy: C mTLS pump / ours", None, "x", 0.6, "higher"),
    Metric("full copy: rsync / ours", None, "x", 3.0, "higher"),
    Metric("full copy, processor: nbdcopy / ours", None, "x", None, "higher"),
    Metric("full copy, processor: C mTLS pump / ours", None, "x", None, "higher"),
    Metric("5 % delta, acknowledged", None, "s", None, "lower"),
    Metric("5 % delta, applied", None, "s", None, "lower"),
    Metric("5 % delta: rsync / ours", None, "x", 8.0, "higher"),
    Metric("5 % delta: QEMU incremental / ours", None, "x", 2.0, "higher"),
    Metric("durable commit", None, "ms", None, "lower"),
    Metric("durable commit / in place and fdatasync", None, "x", 3.0, "lower"),
    Metric("guest write of 16 KiB, tracked", None, "us", None, "lower"),
    Metric("guest write of 16 KiB: slower by tracking", None, "%", 10.0, "lower"),
    Metric(f"{MACHINES} machines at once / one: throughput", None, "x", 0.9, "higher"),
    Metric(f"{MACHINES} machines at once: slowest / fastest", None, "x", 1.2, "lower"),
    Metric(f"{MACHINES} machines at once: memory, replica's host", None, "MB", None, "lower"),
    Metric(f"{SPARSE}: memory, primary's host", None, "MB", 100.0, "lower"),
    Metric(f"{SPARSE}: memory, replica's host", None, "MB", 100.0, "lower"),
)

CATALOGUE: Final = {each.metric: each for each in _LISTED}
"""A run gives each of them its value."""
