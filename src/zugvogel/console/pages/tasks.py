"""The list of tasks; each has a page of its own (`task`)."""

from __future__ import annotations

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.tables import holds, shown
from zugvogel.domain.cluster import Access

KEYS = {
    "began": lambda task: task["id"].encode(),  # ids rise with time, letter by letter
    "kind": lambda task: task["kind"],
    "subject": lambda task: task["subject"],
    "state": lambda task: task["state"],
    "owner": lambda task: task["owner"],
}


async def view(look: Look) -> Variables:
    query, all_tasks = look.query, look.mirror.all("tasks")
    text, state = query.get("q", ""), query.get("state", "")
    found = [
        task
        for task in all_tasks
        if state in ("", task["state"]) and holds(text, task["kind"], task["subject"], task["owner"])
    ]
    return {
        "table": shown(found, query, KEYS, "began", down=True),
        "all_count": len(all_tasks),
        "text": text,
        "state": state,
    }


async def cancel(call: Call) -> Told:
    await call.api.request("POST", f"/tasks/{call.path['id']}/cancel")
    return Told(call.language.text("It is asked to stop and to put everything back."))


PAGES = (Page("/tasks", "tasks.html", view),)
ACTIONS = (Action("/tasks/{id}/cancel", Access.OPERATOR, cancel),)
