"""What the API says of itself, held against what it does: random requests, as each role, to the real services over
a simulated cluster of two hosts. ``ZUGVOGEL_SCHEMATHESIS_EXAMPLES`` makes more of them, and others each
time."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import (
    ExamplesPhaseConfig,
    GenerationConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app
from zugvogel.domain.cluster import Access, Token
from zugvogel.domain.settings import SETTINGS
from zugvogel.sim.serving import Training, cluster_of, serving

MORE = os.environ.get("ZUGVOGEL_SCHEMATHESIS_EXAMPLES")
SPEED = 20.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
STREAM = "watch"
"""It does not end; its own tests read it."""
HOSTS, VMS, STORES = ["host1", "host2"], ["web1", "db1", "mail1", "build1"], ["san1", "san2"]
IN_PATH = {
    "/hosts/": HOSTS,
    "/vms/": VMS,
    "/datastores/": STORES,
    "/networks/": ["lan"],
    "/settings/": sorted(SETTINGS),
    "/tokens/": ["first"],
    "/ha/explain/": HOSTS + VMS,
}
ANYBODY = "/confirm-dead"
"""Takes names of hosts that are no more."""
IN_BODY: dict[str, list[Any]] = {"target": HOSTS, "host": HOSTS, "datastore": STORES, "networks": [["lan"], []]}
ROLES = [*Access, *[Access.ADMIN] * 4, None]
"""None: without a bearer. Admins get furthest, so there are more of them."""


@dataclass
class Served:
    url: str = ""
    defects: list[Any] = field(default_factory=list)
    is_up: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        training = Training(cluster_of(len(HOSTS), len(VMS)), "first.secret")
        for access in Access:
            digest = sha256(b"secret").hexdigest()
            training.world.add_token(Token(id=access.value, access=access, secret_sha256=digest))
        async with serving(training, 0, speed=SPEED) as served:
            self.url = served.url
            self.is_up.set()
            await asyncio.to_thread(self.is_over.wait)
        self.defects = [*training.world.defects, *training.world.loop.defects]
        training.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, made.run())
        while not made.is_up.wait(0.1) and not running.done():
            continue
        if running.done():
            running.result()
        yield made
        made.is_over.set()
        running.result(30)
    assert made.defects == []


def document() -> dict[str, Any]:
    """The API's own, but for names: mostly of what there is, as random ones hit nothing."""
    told = create_app(FakeBackend()).openapi()
    for path, operations in told["paths"].items():
        known = next((names for part, names in IN_PATH.items() if part in path), [])
        for parameter in (p for operation in operations.values() for p in operation.get("parameters", ())):
            if parameter["in"] == "path" and not path.endswith(ANYBODY):
                parameter["schema"] = {"enum": [*known, "nobody"]}
    for name, schema in told["components"]["schemas"].items():
        if re.search(r"Vm$", name) and "properties" in schema:
            schema["properties"] |= {
                key: {"enum": [*names, None]} for key, names in IN_BODY.items() if key in schema["properties"]
            }
    return told


def config() -> SchemathesisConfig:
    """The bearer is ours: it is not made up. The document's examples are proven elsewhere."""
    project = ProjectConfig(
        generation=GenerationConfig(with_security_parameters=False),
        phases=PhasesConfig(examples=ExamplesPhaseConfig(enabled=False)),
    )
    return SchemathesisConfig(projects=ProjectsConfig(default=project))


API = schemathesis.openapi.from_dict(document(), config=config()).exclude(operation_id=STREAM)


def may(case: schemathesis.Case[Any], role: Access | None) -> bool:
    needed = case.operation.definition.raw.get("security")
    return not needed or (role is not None and role.allows(Access(needed[0]["HTTPBearer"][0])))


@API.given(role=st.sampled_from(ROLES))
@API.parametrize()
@settings(
    max_examples=int(MORE or 8), derandomize=MORE is None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_it_does_what_it_says(case: schemathesis.Case[Any], role: Access | None, served: Served) -> None:
    headers = {"Authorization": f"Bearer {role}.secret"} if role else {}
    answer = case.call(base_url=served.url, headers=headers)
    case.validate_response(answer, headers=headers, checks=CHECKS)
    if not may(case, role):
        assert answer.status_code in (403, 405, 422), answer.text
