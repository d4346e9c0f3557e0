// A vm's console over the console's WebSocket: opened again as long as that makes sense. The vm's state stands in the
// page (#where, kept up to date by the live stream), the texts in #texts. Close codes: see zugvogel/console/sockets.py.

const LOGGED_OUT = 4401, FORBIDDEN = 4403, REFUSED = 4409;
const PAUSES_MS = [200, 500, 1000, 2000, 4000];
const SETTLED_MS = 150;

export const texts = JSON.parse(document.getElementById("texts").textContent);
const status = document.getElementById("status");
const again = document.getElementById("again");

function where() {
  const { on, host, epoch } = document.getElementById("where").dataset;
  return { isOn: on === "1", host, epoch };
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

export class Line {
  // `opens(socket)`: take the new socket. `ends()`: it is gone; keep what is shown.
  constructor(path, { opens, ends }) {
    this.url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
    this.opens = opens;
    this.ends = ends;
    this.failures = 0;
    this.isOpen = this.isLeaving = false;
    this.shownHost = "";
    this.refusedAt = null;
    addEventListener("pagehide", () => { this.isLeaving = true; this.socket?.close(); });
    again.addEventListener("click", () => this.connect());
    document.addEventListener("zugvogel:morphed", () => this.looked());
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) return;
    again.hidden = true;
    this.refusedAt = null;
    this.say(texts.connecting);
    this.socket = new WebSocket(this.url, ["binary"]);
    this.socket.binaryType = "arraybuffer";
    let settled;
    // A refusal comes as an opening and a closing, so that it can say why.
    this.socket.addEventListener("open", () => { settled = setTimeout(() => this.opened(), SETTLED_MS); });
    this.socket.addEventListener("close", (event) => { clearTimeout(settled); this.closed(event); });
    this.opens(this.socket);
  }

  opened() {
    this.isOpen = true;
    this.failures = 0;
    this.tell();
  }

  closed({ code, reason }) {
    this.isOpen = false;
    this.ends();
    if (this.isLeaving) return;
    if (code === LOGGED_OUT) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
    else if (code === FORBIDDEN) this.wait(reason, false);
    else if (code === REFUSED) this.wait(where().isOn ? reason : `${reason}. ${texts.waits}`, true);
    else {
      const pause = PAUSES_MS[Math.min(this.failures, PAUSES_MS.length - 1)];
      this.failures += 1;
      this.say(reason ? `${texts.again} (${reason})` : texts.again);
      this.timer = setTimeout(() => this.connect(), pause);
    }
  }

  wait(text, isByItself) {
    this.refusedAt = isByItself ? where() : null;
    again.hidden = false;
    this.say(text);
  }

  // What the live stream told of the vm.
  looked() {
    const now = where();
    if (this.isOpen) this.tell();
    else if (this.refusedAt && now.isOn && (now.epoch !== this.refusedAt.epoch || !this.refusedAt.isOn)) this.connect();
  }

  tell() {
    const { host } = where();
    const values = { host, from: this.shownHost };
    if (this.shownHost && host && host !== this.shownHost) this.moved = filled(texts.moved, values);
    if (host) this.shownHost = host;
    this.say(this.moved ?? filled(texts.connected, values));
  }

  say(text) {
    if (status.textContent !== text) status.textContent = text;
  }
}

// Ctrl-Shift-F6 leaves what takes all other keys.
export function leaves(screen, target, left = () => {}) {
  addEventListener("keydown", (event) => {
    if (event.key !== "F6" || !event.ctrlKey || !event.shiftKey || !screen.contains(document.activeElement)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    left();
    target.focus();
  }, { capture: true });
}

export function remembered(name, initial) {
  try { return localStorage.getItem(name) ?? initial; } catch { return initial; }
}
export function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ }
}
