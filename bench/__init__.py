"""Measures Zugvogel's live migration against raw QMP, libvirt and the wire: `python -m bench` (as root)."""
