// The serial console of a vm.
import { Terminal } from "./vendor/xterm/xterm.mjs";
import { FitAddon } from "./vendor/xterm-fit/addon-fit.mjs";
import { Line, leaves, remember, remembered, texts } from "./reach.js";

const SMALLEST = 7, LARGEST = 28;
const screen = document.getElementById("screen");
const button = (id) => document.getElementById(id);

const terminal = new Terminal({
  cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
  fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, monospace',
  fontSize: Number(remembered("terminal.size", innerWidth < 720 ? "12" : "14")),
  scrollback: 5000,
  screenReaderMode: remembered("terminal.reader", "") === "1",
  theme: { background: "#12161b", foreground: "#e4e9ee", cursor: "#56c2d8", selectionBackground: "#3b5563" },
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open(screen);
terminal.textarea?.setAttribute("aria-label", screen.getAttribute("aria-label"));
new ResizeObserver(() => fit.fit()).observe(screen);
fit.fit();

let socket = null;
const encoder = new TextEncoder();
function send(bytes) { if (socket?.readyState === WebSocket.OPEN) socket.send(bytes); }
terminal.onData((text) => send(encoder.encode(text)));
terminal.onBinary((text) => send(Uint8Array.from(text, (sign) => sign.charCodeAt(0))));

new Line(`/vms/${document.getElementById("where").dataset.vm}/console/socket`, {
  opens(opened) {
    socket = opened;
    socket.addEventListener("message", (event) => terminal.write(new Uint8Array(event.data)));
  },
  ends() { socket = null; },
});

// copy and paste ----------------------------------------------------------------------------------

const hint = document.getElementById("hint");
async function copy() {
  const text = terminal.getSelection();
  if (!text) { hint.textContent = texts.select; return; }
  try { await navigator.clipboard.writeText(text); hint.textContent = texts.copied; }
  catch { hint.textContent = texts.cannot_copy; }
}
async function paste() {
  try { terminal.paste(await navigator.clipboard.readText()); hint.textContent = ""; }
  catch { hint.textContent = texts.cannot_paste; }
  terminal.focus();
}
button("copy").addEventListener("click", copy);
button("paste").addEventListener("click", paste);
terminal.attachCustomKeyEventHandler((event) => {
  const isCopy = event.type === "keydown" && event.ctrlKey && event.shiftKey && event.code === "KeyC";
  if (isCopy && terminal.hasSelection()) { event.preventDefault(); copy(); }
  // Ctrl-Shift-V is left to the browser, which pastes.
  return !isCopy && !(event.ctrlKey && event.shiftKey && event.code === "KeyV");
});

// tools -------------------------------------------------------------------------------------------

const KEYS = { escape: "\x1b", tab: "\t", "ctrl-c": "\x03", "ctrl-d": "\x04", up: "\x1b[A" };
for (const key of document.querySelectorAll("[data-key]")) {
  key.addEventListener("click", () => { send(encoder.encode(KEYS[key.dataset.key])); terminal.focus(); });
}
function sized(by) {
  terminal.options.fontSize = Math.min(LARGEST, Math.max(SMALLEST, terminal.options.fontSize + by));
  remember("terminal.size", terminal.options.fontSize);
  fit.fit();
}
button("smaller").addEventListener("click", () => sized(-1));
button("larger").addEventListener("click", () => sized(1));
button("stty").addEventListener("click", () => {
  send(encoder.encode(`stty rows ${terminal.rows} cols ${terminal.cols}\r`));
  terminal.focus();
});
const reader = button("reader");
reader.checked = terminal.options.screenReaderMode;
reader.addEventListener("change", () => {
  terminal.options.screenReaderMode = reader.checked;
  remember("terminal.reader", reader.checked ? "1" : "");
});
leaves(screen, button("leave"));
terminal.focus();
