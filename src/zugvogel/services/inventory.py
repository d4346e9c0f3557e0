"""What the cluster knows, typed: hosts, vms, datastores, networks, settings.

Each agent keeps a replica of these few keys (fed by a watch), so that reads are instant and go on without
etcd's majority. Writes go to etcd; what is only an observation (where a vm runs) is queued and retried.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

from zugvogel.domain.base import Model
from zugvogel.domain.cluster import Cluster, Token
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host
from zugvogel.domain.network import Network
from zugvogel.domain.settings import SETTINGS, in_effect, refuse_unfit
from zugvogel.domain.user import EndedSession, SessionKey, User
from zugvogel.domain.vm import VmDefinition, VmRecord, VmState
from zugvogel.errors import Conflict, NotFound, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Change, Entry, Registry

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Model)
SESSION_KEY = "secrets/sessions"
ENDED_SESSIONS = "endedsessions/"
PREFIXES = (
    "cluster", "hosts/", "vms/", "datastores/", "networks/", "settings/", "tokens/", "users/",
    SESSION_KEY, ENDED_SESSIONS,
)  # fmt: skip
GENERATION = "generation"
"""Written by the host that formed etcd anew: from then on revisions may be lower than before."""
RETRY_S = 0.5


class Observation(Model):
    """Where a vm was last seen by the holder of `epoch`."""

    vm: str
    observed: VmState
    host: str | None
    epoch: int
    why: str = ""
    wanted: str = ""
    """Empty: leave what is wanted as it is."""
    definition: VmDefinition | None = None
    """As it was started: `vm.toml` may have been edited by hand. None: leave what is recorded."""
    uuid: str = ""
    """Of the vm; it says nothing of another one that was made under its name since. Empty: of the one that this
    host knows when it tells."""


class _Values(dict[str, bytes]):
    """Key -> value; and what was made of the values, until one of them changes: they are asked for dozens of
    times a second and change hardly ever."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        """Counts what was set or removed."""
        self.parsed: dict[str, Any] = {}
        """Key -> what its value says."""
        self.lists: dict[str, list[Any]] = {}
        """prefix -> what was made of all values below it."""
        self._keys: dict[str, list[str]] = {}
        """prefix -> all keys below it, in order."""
        self.settings: dict[str, int | str | bool] = {}
        """As they count now, each beside the others."""
        self.numbers: dict[str, int] = {}
        """Those of the settings that were asked for as whole numbers."""

    def __setitem__(self, key: str, value: bytes) -> None:
        self._changed(key, is_other=key not in self)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._changed(key, is_other=True)
        super().__delitem__(key)

    def pop(self, key: str, default: Any = None) -> Any:
        self._changed(key, is_other=True)
        return super().pop(key, default)

    def setdefault(self, key: str, default: bytes = b"") -> bytes:
        self._changed(key, is_other=True)
        return super().setdefault(key, default)

    def below(self, prefix: str) -> list[str]:
        """The keys, in order."""
        found = self._keys.get(prefix)
        if found is None:
            found = self._keys[prefix] = sorted(key for key in self if key.startswith(prefix))
        return found

    def _changed(self, key: str, *, is_other: bool) -> None:
        """`is_other`: a key comes or goes."""
        self.changes += 1
        self.parsed.pop(key, None)
        prefix = key[: key.find("/") + 1]
        self.lists.pop(prefix, None)
        if is_other:
            self._keys.pop(prefix, None)
        if prefix == "settings/":
            self.settings.clear()
            self.numbers.clear()


@lru_cache(maxsize=1 << 15)
def _parsed(kind: type[Model], raw: bytes) -> Model:
    """Each value is parsed once, for all that hold it."""
    return kind.model_validate_json(raw)


class Inventory:
    """`seed_hosts`: hosts known from disk, used until the registry has answered once.

    Lists are for reading alone: the same one is given until something in it changes, and then another one."""

    def __init__(self, registry: Registry, clock: Clock, seed_hosts: list[Host]) -> None:
        self._registry = registry
        self._clock = clock
        self._seed_hosts = seed_hosts
        self._values = _Values()
        self._seen_on: tuple[list[VmRecord], dict[str, list[VmRecord]]] = ([], {})
        self._revisions: dict[str, int] = {}
        self._taken: tuple[list[Entry], int, int] = [], -1, 0
        """The snapshot that was taken in last, the values' `changes` after it, and its generation."""
        self._generation = 0
        self._pending: dict[str, Observation] = {}
        self._wake = asyncio.Event()
        self.is_loaded = asyncio.Event()
        self.on_hosts: Callable[[list[Host]], None] = lambda hosts: None

    # reading ---------------------------------------------------------------------------------

    def _all(self, prefix: str, kind: type[M]) -> list[M]:
        values = self._values
        if prefix not in values.lists:
            values.lists[prefix] = self._made_of(prefix, kind)
        return values.lists[prefix]

    def _made_of(self, prefix: str, kind: type[M]) -> list[Any]:
        return [_parsed(kind, self._values[key]) for key in self._values.below(prefix)]

    def _one(self, key: str, kind: type[M]) -> M | None:
        values = self._values
        if key not in values.parsed:
            if key not in values:
                return None
            values.parsed[key] = _parsed(kind, values[key])
        found: M = values.parsed[key]
        return found

    def cluster(self) -> Cluster:
        found = self._one("cluster", Cluster)
        if found is None:
            raise Unreachable("this agent has not read the registry yet", "wait a few seconds and try again")
        return found

    def hosts(self) -> list[Host]:
        """In the order of their addition."""
        lists = self._values.lists
        if "hosts/" not in lists:
            lists["hosts/"] = sorted(self._made_of("hosts/", Host) or self._seed_hosts, key=_ordinal)
        return lists["hosts/"]

    def host(self, name: str) -> Host:
        for host in self.hosts():
            if host.name == name:
                return host
        raise NotFound(f"there is no host {name}", f"hosts are: {', '.join(h.name for h in self.hosts())}")

    def token(self, token_id: str) -> Token | None:
        return self._one(f"tokens/{token_id}", Token)

    def tokens(self) -> list[Token]:
        return self._all("tokens/", Token)

    def users(self) -> list[User]:
        return self._all("users/", User)

    def user(self, name: str) -> User | None:
        return self._one(f"users/{name}", User)

    def session_key(self) -> SessionKey | None:
        """None: nobody has needed it yet."""
        return self._one(SESSION_KEY, SessionKey)

    def ended_session(self, session_id: str) -> EndedSession | None:
        return self._one(f"{ENDED_SESSIONS}{session_id}", EndedSession)

    def ended_sessions(self) -> list[EndedSession]:
        return self._all(ENDED_SESSIONS, EndedSession)

    def vms(self) -> list[VmRecord]:
        return self._all("vms/", VmRecord)

    def vms_on(self, host: str) -> list[VmRecord]:
        """Those that were last seen there. Found at once: each host asks for its own, of all that there are."""
        known = self.vms()
        if self._seen_on[0] is not known:
            found: dict[str, list[VmRecord]] = {}
            for record in known:
                found.setdefault(record.host or "", []).append(record)
            self._seen_on = (known, found)
        return self._seen_on[1].get(host, [])

    def vm(self, name: str) -> VmRecord:
        found = self._one(f"vms/{name}", VmRecord)
        if found is None:
            raise NotFound(f"there is no vm {name}", "see: zv vm list")
        return found

    def datastores(self) -> list[Datastore]:
        return self._all("datastores/", Datastore)

    def datastore(self, name: str) -> Datastore:
        found = self._one(f"datastores/{name}", Datastore)
        if found is None:
            raise NotFound(f"there is no datastore {name}", "see: zv datastore list")
        return found

    def networks(self) -> list[Network]:
        return self._all("networks/", Network)

    def network(self, name: str) -> Network:
        found = self._one(f"networks/{name}", Network)
        if found is None:
            raise NotFound(f"there is no network {name}", "see: zv network list")
        return found

    def setting(self, name: str) -> int | str | bool:
        """As it counts now, beside the others."""
        settings = self._values.settings
        if name not in settings:
            if name not in SETTINGS:
                raise NotFound(f"there is no setting {name}", "see: zv settings list")
            settings[name] = in_effect(name, self._setting(name), self.setting)
        return settings[name]

    def _setting(self, name: str) -> int | str | bool:
        raw = self._values.get(f"settings/{name}")
        value: int | str | bool = SETTINGS[name].default if raw is None else json.loads(raw)
        return value

    def number(self, name: str) -> int:
        """A setting that is a whole number."""
        numbers = self._values.numbers
        if name not in numbers:
            numbers[name] = int(self.setting(name))
        return numbers[name]

    def seconds(self, name: str) -> float:
        """A setting in milliseconds, as seconds."""
        numbers = self._values.numbers
        return (numbers[name] if name in numbers else self.number(name)) / 1000

    # writing ---------------------------------------------------------------------------------

    async def put(self, key: str, value: Model, *, revision: int | None = None) -> None:
        """Write through; the replica shows it at once."""
        raw = value.model_dump_json().encode()
        self._keep(key, raw, await self._registry.put(key, raw, revision=revision))

    async def create(self, values: dict[str, Model]) -> None:
        """All of `values` or none; Conflict where one of the keys exists."""
        raw = {key: value.model_dump_json().encode() for key, value in values.items()}
        await self._registry.put_many(raw, expect=dict.fromkeys(raw, 0))
        for key, value in raw.items():
            self._values.setdefault(key, value)

    async def delete(self, *keys: str, revision: int | None = None) -> None:
        """`revision`: only those that are of it; raises Conflict."""
        for key in keys:
            await self._registry.delete(key, revision=revision)
            self._values.pop(key, None)
            self._revisions.pop(key, None)

    async def set_setting(self, name: str, value: int | str | bool) -> None:
        known = SETTINGS.get(name)
        if known is None:
            raise NotFound(f"there is no setting {name}", "see: zv settings list")
        refuse_unfit(known, value, self.setting)
        raw = json.dumps(value).encode()
        self._keep(f"settings/{name}", raw, await self._registry.put(f"settings/{name}", raw))

    async def change_vm(self, name: str, change: Callable[[VmRecord], VmRecord]) -> VmRecord:
        """Read, change, write if nobody else changed it meanwhile; tried again on conflict."""
        for _ in range(8):
            entry = await self._registry.get(f"vms/{name}")
            if entry is None:
                raise NotFound(f"there is no vm {name}", "see: zv vm list")
            before = _record(entry.value)
            after = change(before)
            if after == before:
                return before
            try:
                await self.put(f"vms/{name}", after, revision=entry.revision)
            except Conflict:
                continue
            return after
        raise Conflict(f"{name} is being changed by others all the time", "try again")

    async def want(self, name: str, wanted: str, timeout_s: float) -> bool:
        """What a user wants of the vm, written before it is done: it outlives this host. False: not in that time,
        so it may or may not be known."""
        known = self._pending.get(name)
        if known is not None and known.wanted:  # older than this wish
            self._pending[name] = known.model_copy(update={"wanted": wanted})
        try:
            async with asyncio.timeout(timeout_s):
                await self.change_vm(name, lambda record: record.model_copy(update={"wanted": wanted}))
        except (ZugvogelError, TimeoutError) as error:
            log.warning("%s: that it is to be %s was not written: %r", name, wanted, error)
            return False
        return True

    def observe(self, seen: Observation) -> None:
        """Queue an observation; never blocks. The replica shows it at once, the registry when it can."""
        record = self._one(f"vms/{seen.vm}", VmRecord)
        known = self._pending.get(seen.vm)
        if not seen.uuid and record is not None:
            is_changed = known is not None and known.definition is not None  # the registry knows the old one yet
            uuid = known.uuid if known is not None and is_changed else record.definition.uuid
            seen = seen.model_copy(update={"uuid": uuid})
        if known is not None and known.uuid != seen.uuid:
            known = None
        if known is None or seen.epoch >= known.epoch:
            if known is not None and seen.definition is None:
                seen = seen.model_copy(update={"definition": known.definition})
            self._pending[seen.vm] = seen
        if record is not None:
            self._values[f"vms/{seen.vm}"] = apply_observation(record, seen).model_dump_json().encode()
        self._wake.set()

    # loops -----------------------------------------------------------------------------------

    async def run(self) -> None:
        await asyncio.gather(self._follow(), self._write_observations())

    async def _follow(self) -> None:
        """A snapshot, then every change after it; a new snapshot whenever the stream breaks."""
        while True:
            try:
                revision = await self._load()
                async for change in self._registry.watch("", after=revision):
                    self._take(change)
            except ZugvogelError as error:
                log.info("registry not followed: %s", error)
            await self._clock.sleep(RETRY_S)

    async def _load(self) -> int:
        entries, revision = await self._registry.snapshot("")
        if self._pending or self._taken != (entries, self._values.changes, self._generation):
            self._follow_generation(next((e.value for e in entries if e.key == GENERATION), b"0"))
            self._take_all({e.key: e for e in entries if e.key.startswith(PREFIXES)})
            self._taken = entries, -1 if self._pending else self._values.changes, self._generation
        self._loaded()
        return revision

    def _take_all(self, fresh: dict[str, Entry]) -> None:
        for key in set(self._values) - set(fresh):
            del self._values[key]
            self._revisions.pop(key, None)
        for entry in fresh.values():
            self._keep(entry.key, entry.value, entry.revision)

    def _follow_generation(self, value: bytes) -> bool:
        """True: a newer one, whose revisions are not to be compared with those before. Raises Unreachable for an
        older one: some host has not noticed yet that its data is past."""
        generation = int(value)
        if generation < self._generation:
            raise Unreachable(f"a host answered with the registry's past generation {generation}", "ask again")
        is_newer = generation > self._generation
        if is_newer:
            self._revisions.clear()
            self._generation = generation
        return is_newer

    def _take(self, change: Change) -> None:
        if change.key == GENERATION and change.value is not None and self._follow_generation(change.value):
            raise Unreachable("the registry was formed anew", "everything is read again")
        if not change.key.startswith(PREFIXES):
            return
        if change.value is None:
            self._values.pop(change.key, None)
            self._revisions.pop(change.key, None)
        else:
            self._keep(change.key, change.value, change.revision)
        if change.key.startswith(("hosts/", "cluster")):
            self._loaded()

    def _loaded(self) -> None:
        if "cluster" in self._values:
            self.is_loaded.set()
        self.on_hosts(self.hosts())

    def _keep(self, key: str, value: bytes, revision: int) -> None:
        if revision >= self._revisions.get(key, 0):
            shown = self._with_pending(key, value)
            if self._values.get(key) != shown:
                self._values[key] = shown
            self._revisions[key] = revision

    def _with_pending(self, key: str, value: bytes) -> bytes:
        """What this host observed and the registry does not have yet is not forgotten over an older value."""
        if not self._pending or not key.startswith("vms/"):
            return value
        seen = self._pending.get(key.removeprefix("vms/"))
        if seen is None:
            return value
        return apply_observation(_record(value), seen).model_dump_json().encode()

    async def _write_observations(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for seen in list(self._pending.values()):
                await self._write_observation(seen)
            if self._pending:
                await self._clock.sleep(1.0)
                self._wake.set()

    async def _write_observation(self, seen: Observation) -> None:
        try:
            await self.change_vm(seen.vm, lambda record: apply_observation(record, seen))
        except NotFound:
            pass
        except ZugvogelError as error:
            log.warning("%s: not written to the registry yet: %s", seen.vm, error)
            return
        if self._pending.get(seen.vm) == seen:
            del self._pending[seen.vm]


def _record(raw: bytes) -> VmRecord:
    return cast(VmRecord, _parsed(VmRecord, raw))


def _ordinal(host: Host) -> int:
    return host.ordinal


def apply_observation(record: VmRecord, seen: Observation) -> VmRecord:
    """The record with `seen` in it; unchanged when a higher epoch was seen before, or it was of another vm."""
    if seen.epoch < record.epoch or seen.uuid not in {"", record.definition.uuid}:
        return record
    update: dict[str, object] = {
        "observed": seen.observed,
        "host": seen.host,
        "epoch": seen.epoch,
        "why": seen.why,
    }
    if seen.wanted:
        update["wanted"] = seen.wanted
    if seen.definition is not None:
        update["definition"] = seen.definition
    return record.model_copy(update=update)
