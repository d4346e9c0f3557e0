"""The client for asyncio. `_sync` is written from this by `scripts/sync_client.py`: change it here."""
