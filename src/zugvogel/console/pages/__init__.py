"""All pages, actions and sockets of the console."""

from zugvogel.console.actions import Action
from zugvogel.console.page import Page
from zugvogel.console.pages import (
    cluster,
    cluster_doing,
    datastores,
    events,
    host,
    host_doing,
    networks,
    password,
    settings,
    survival,
    task,
    tasks,
    users,
    vm,
    vm_making,
    vm_moving,
    vm_power,
    vm_screens,
    vms,
)
from zugvogel.console.sockets import Socket

_PARTS = (
    cluster,
    cluster_doing,
    host,
    host_doing,
    datastores,
    networks,
    users,
    password,
    vms,
    vm_making,  # before `vm`, whose path would take its own
    vm,
    vm_power,
    vm_moving,
    vm_screens,
    tasks,
    task,
    events,
    settings,
    survival,
)

PAGES: tuple[Page, ...] = tuple(page for part in _PARTS for page in part.PAGES)
ACTIONS: tuple[Action, ...] = tuple(action for part in _PARTS for action in part.ACTIONS)
SOCKETS: tuple[Socket, ...] = (
    Socket("/vms/{name}/console/socket", "/vms/{name}/console"),
    Socket("/vms/{name}/display/socket", "/vms/{name}/display"),
)
