"""The consoles of a vm in the browser: serial and graphical."""

from __future__ import annotations

from zugvogel.console.actions import Action
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.vm import ON, its
from zugvogel.domain.cluster import Access


async def view(look: Look) -> Variables:
    vm = its(look)
    where = {"is_on": vm["state"] in ON, "host": vm["host"] or "", "epoch": vm["epoch"]}
    return {"vm": vm, "where": where}


PAGES = (
    Page("/vms/{name}/console", "vm_console.html", view, needs=Access.OPERATOR),
    Page("/vms/{name}/display", "vm_display.html", view, needs=Access.OPERATOR),
)
ACTIONS: tuple[Action, ...] = ()
