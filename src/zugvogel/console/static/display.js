// The graphical console of a vm, by VNC.
import RFB from "./vendor/novnc/core/rfb.js";
import { Line, leaves, remember, remembered } from "./reach.js";

const screen = document.getElementById("screen");
const canvasPlace = document.getElementById("rfb");
const scales = document.getElementById("scales");
let rfb = null;

scales.checked = remembered("display.scales", "1") === "1";
function scaled() {
  screen.classList.toggle("scrolls", !scales.checked);
  if (rfb) rfb.scaleViewport = scales.checked;
}
scales.addEventListener("change", () => { remember("display.scales", scales.checked ? "1" : ""); scaled(); });

// While there is no connection the last picture stays, dimmed.
function keepPicture() {
  let image = null;
  try { image = rfb?.getImageData(); } catch { /* nothing was shown yet */ }
  if (!image) return;
  const still = document.createElement("canvas");
  still.width = image.width;
  still.height = image.height;
  still.setAttribute("aria-hidden", "true");
  still.getContext("2d").putImageData(image, 0, 0);
  forgetPicture();
  screen.append(still);
}
function forgetPicture() {
  for (const still of screen.querySelectorAll(":scope > canvas")) still.remove();
}

new Line(`/vms/${document.getElementById("where").dataset.vm}/display/socket`, {
  opens(socket) {
    const made = new RFB(canvasPlace, socket, { shared: true });
    made.background = "#12161b";
    made.addEventListener("connect", () => {
      forgetPicture();
      if (document.activeElement === document.body) made.focus();
    });
    rfb = made;
    scaled();
  },
  ends() { keepPicture(); rfb = null; },
});

document.getElementById("cad").addEventListener("click", () => { rfb?.sendCtrlAltDel(); rfb?.focus(); });
document.getElementById("type").addEventListener("click", () => rfb?.focus());
const full = document.getElementById("full");
full.hidden = !document.fullscreenEnabled;
full.addEventListener("click", () => { screen.requestFullscreen(); rfb?.focus(); });
// Keys that are down are let go of: their going up is not seen any more.
leaves(screen, document.getElementById("leave"), () => {
  if (document.fullscreenElement) document.exitFullscreen();
  dispatchEvent(new Event("blur"));
});
