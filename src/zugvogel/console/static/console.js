// What all pages share: blocks that live, dialogs, messages, menus.
// Pages that draw (charts, consoles) have modules of their own and listen for "zugvogel:morphed".

const body = document.body;

// live blocks ---------------------------------------------------------------------------------

const callbacks = {
  // An element with data-keep draws itself; its data stands beside it.
  beforeNodeMorphed: (old) => !(old instanceof Element && old.hasAttribute("data-keep")),
  // What a person opened stays open.
  beforeAttributeUpdated: (name, node) => !(name === "open" && (node.tagName === "DETAILS" || node.tagName === "DIALOG")),
};

function morph(id, html) {
  const element = document.getElementById(id);
  if (!element) return;
  const isBlock = id.startsWith("live_");
  // What is being typed stays; the text of a button or link that has the focus does not.
  const ignoreActiveValue = document.activeElement?.matches("input, select, textarea") ?? false;
  Idiomorph.morph(element, html, { morphStyle: isBlock ? "innerHTML" : "outerHTML", ignoreActiveValue, callbacks });
  const now = document.getElementById(id);
  if (!now) return;
  htmx.process(now);
  now.dispatchEvent(new CustomEvent("zugvogel:morphed", { bubbles: true }));
}

function lost(text) {
  const banner = document.getElementById("lost");
  banner.textContent = text;
  banner.hidden = !text;
}

// One socket a page. It comes back by itself; what it sends first holds every block as it is then.
const LOGGED_OUT = 4401, GONE = 4404, FORBIDDEN = 4403;
const AGAIN_MS = [500, 1000, 2000, 5000];
let socket, failures = 0;

function follow() {
  const before = socket;
  const mine = socket = new WebSocket(new URL(body.dataset.live, location.href.replace(/^http/, "ws")));
  before?.close();
  mine.addEventListener("message", (event) => {
    if (socket !== mine) return;
    const told = JSON.parse(event.data);
    if ("trouble" in told) lost(told.trouble);
    else if (failures) lost("");
    failures = 0;
    for (const [id, html] of Object.entries(told.live ?? {})) morph(id, html);
  });
  mine.addEventListener("close", (event) => {
    if (socket !== mine) return;
    if (event.code === LOGGED_OUT) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    else if (event.code === GONE) lost(body.dataset.textGone);
    else if (event.code !== FORBIDDEN) {
      lost(body.dataset.textLost);
      setTimeout(() => { if (socket === mine) follow(); }, AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)]);
    }
  });
}

// The same page with another query: its stream begins with every block as it is now.
function turn(query) {
  const path = location.pathname + (query ? `?${query}` : "");
  history.pushState(null, "", path);
  body.dataset.live = `/live${path}`;
  follow();
}

if (body.dataset.live) {
  follow();
  // Not for a place on this page, such as where "skip to the content" leads.
  addEventListener("popstate", () => {
    if (body.dataset.live !== `/live${location.pathname}${location.search}`) location.reload();
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

// dialogs, messages, menus ------------------------------------------------------------------------

// One dialog may do for all rows of a table: `values` say which one is meant.
function opened(dialog, values) {
  if (!dialog) return;
  dialog.querySelector(".refusal")?.replaceChildren();
  for (const [name, value] of Object.entries(values)) {
    for (const field of dialog.querySelectorAll(`[name="${name}"]`)) field.value = value;
    for (const place of dialog.querySelectorAll(`[data-shows="${name}"]`)) place.textContent = value;
  }
  dialog.showModal();
}

const isRefused = (detail) => Boolean(detail.xhr?.getResponseHeader("x-zugvogel-refused"));
const dialogOf = (element) => (element instanceof Element ? element.closest("dialog") : null);

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const opener = target?.closest("[data-opens]");
  if (opener) opened(document.getElementById(opener.dataset.opens), JSON.parse(opener.dataset.values ?? "{}"));
  if (target?.closest("[data-closes]")) target.closest("dialog")?.close();
  if (target?.closest("[data-dismisses]")) target.closest(".toast")?.remove();
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    menu.open = false;
  }
});
// What was refused stays as it was typed, with the cause beside it.
document.addEventListener("htmx:beforeSwap", (event) => {
  const place = dialogOf(event.detail.requestConfig?.elt)?.querySelector(".refusal");
  if (!place || !isRefused(event.detail)) return;
  event.detail.target = place;
  event.detail.swapOverride = "innerHTML";
});
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !event.detail.successful || isRefused(event.detail)) return;
  for (const secret of form.querySelectorAll("input[type=password], [data-secret]")) secret.value = "";
  dialogOf(form)?.close();
});
document.addEventListener("htmx:sendError", () => lost(body.dataset.textLost));
document.addEventListener("htmx:afterSettle", () => {
  for (const toast of document.querySelectorAll(".toast[data-passes]")) {
    toast.removeAttribute("data-passes");
    setTimeout(() => toast.remove(), 8000);
  }
});

// Filters are applied while they are typed; the form stays as it is.
for (const form of document.querySelectorAll("form[data-filters]")) {
  let timer;
  const apply = () => {
    const given = [...new FormData(form)].filter(([, value]) => value !== "");
    const kept = [...new URLSearchParams(location.search)].filter(([name]) => name !== "page" && !form.elements[name]);
    turn(new URLSearchParams([...kept, ...given]).toString());
  };
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 200); });
  form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); apply(); });
}
