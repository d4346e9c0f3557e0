"""The members of etcd, and what is told of them."""

from __future__ import annotations

from zugvogel.domain.base import HostName, Model
from zugvogel.domain.host import Host


class Member(Model):
    """One member of etcd as its members list it. `name` and `client_url` are empty until it has started once.
    `id` is etcd's, decimal. A learner follows and does not vote."""

    id: str
    name: str
    peer_url: str
    is_learner: bool = False
    client_url: str = ""


class MemberStatus(Model):
    """What a member says of itself. `leader_id` empty: it sees no leader, so no majority."""

    id: str
    leader_id: str
    is_learner: bool = False


class GenerationAnswer(Model):
    """One primary to another: the generation its etcd data belongs to, and the primaries it knows."""

    generation: int
    primaries: tuple[HostName, ...] = ()


def peer_url(host: Host) -> str:
    """Where the other members of etcd reach the member of `host`; it names the host for as long as it is one."""
    return f"https://{host.address}:{host.ports.etcd_peer}"
