"""Simulated Hyper-V hosts: the replication state machine and the bytes of the disks."""
