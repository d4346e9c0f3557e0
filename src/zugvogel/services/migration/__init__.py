"""Live migration: the source, the target, the stream between them, records and recovery."""
