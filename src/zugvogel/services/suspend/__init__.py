"""Suspend, resume and quick migration: a vm's memory through shared storage."""
