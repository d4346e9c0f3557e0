from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.console.conftest import Browser
from tests.console.pages.vm_fields import mirror_of, vm
from zugvogel.console.mirror import Mirror

Browse = Callable[[Mirror], Browser]


@pytest.mark.parametrize(("kind", "script"), [("console", "terminal.js"), ("display", "display.js")])
async def test_the_page_holds_what_its_script_needs(browse: Browse, kind: str, script: str) -> None:
    browser = await browse(mirror_of(vm(epoch=7))).log_in("operator")
    page = await browser.get(f"/vms/web1/{kind}")
    assert 'data-vm="web1" data-on="1" data-host="host1" data-epoch="7"' in page.text
    texts = json.loads(page.text.split('id="texts">')[1].split("</script>")[0])
    assert "{host}" in texts["connected"]
    assert "{from}" in texts["moved"]
    source = re.search(rf'src="([^"]+/{script})"', page.text)
    assert source
    code = (await browser.get(source[1])).text
    assert f"/{kind}/socket" in code
    ids = set(re.findall(r'(?:getElementById|button)\("([\w-]+)"\)', code))
    assert ids
    assert all(f'id="{each}"' in page.text for each in ids)


async def test_a_vm_that_is_off_says_so_to_the_script(browse: Browse) -> None:
    page = await (await browse(mirror_of(vm(state="stopped", host=None))).log_in("operator")).get(
        "/vms/web1/console"
    )
    assert 'data-on="0" data-host=""' in page.text


async def test_without_a_display_it_is_told_how_to_get_one(browse: Browse) -> None:
    browser = await browse(mirror_of(vm(definition={"display": "none"}))).log_in("operator")
    page = await browser.get("/vms/web1/display")
    assert "It has no display" in page.text
    assert 'href="/vms/web1/change"' in page.text
    assert "display.js" not in page.text


@pytest.mark.parametrize("kind", ["console", "display"])
async def test_viewers_do_not_see_consoles(browse: Browse, kind: str) -> None:
    assert (await (await browse(mirror_of(vm())).log_in("viewer")).get(f"/vms/web1/{kind}")).status_code == 403
