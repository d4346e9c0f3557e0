"""The kinds of events, as docs/reference/events.md explains them."""

from __future__ import annotations

_BY_NOUN = {
    "cluster": "baseline-set",
    "datastore": "added changed removed",
    "ha": "admission-overridden disabled enabled role-left role-taken",
    "host": (
        "changed confirmed-dead evacuation-ended failed fence-configured fence-failed fence-removed "
        "fenced isolated isolation-ended joined maintenance-begun maintenance-ended partitioned "
        "removed replaced returned role-changed storage-lost"
    ),
    "network": "added removed",
    "registry": "member-removed reformed rejoined",
    "setting": "changed",
    "token": "created revoked",
    "user": "changed created deleted login-failed",
    "vm": (
        "answers changed crashed created deleted failed fenced frozen give-up-failed guest-silent "
        "images-not-reopened images-reopened isolation-accepted isolation-called-off lease-released lease-settled "
        "memory-discarded migrated migration-ended panicked powered-off registered reset restart-failed "
        "restart-ordered restart-waits restarted resume-failed resumed shut-down silent started stopped "
        "suspend-ended suspend-failed suspended thawed unregistered watchdog-fired"
    ),
}

EVENT_KINDS = frozenset(f"{noun}.{verb}" for noun, verbs in _BY_NOUN.items() for verb in verbs.split())
