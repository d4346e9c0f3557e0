"""Zugvogel: live migration, quick migration and high availability for plain QEMU/KVM hosts."""
