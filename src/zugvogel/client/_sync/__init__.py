"""The client that blocks. Written by `scripts/sync_client.py` from `_async`: change it there."""
