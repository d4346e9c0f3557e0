"""What the world offers, as typing.Protocol. Services know these; adapters and the simulator implement them.

Every coroutine may raise `zugvogel.errors.Unreachable` where a remote party is involved and
`StorageError` where a datastore is; what else is raised is said at the method.
"""
