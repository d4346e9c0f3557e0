"""Zugvogel: live migration, quick migration and high availability for plain QEMU/KVM hosts."""

__version__ = "0.1.0"
