// A mask, painted over the picture that it is for: white where it is drawn anew, black elsewhere.

import { announce, byId } from "../common/elements.js";

const PAINT = "#4a63ff"; // shown half transparent; only where it lies matters
const dialog = byId("paint");
const under = byId("paint-under");
const canvas = byId("paint-canvas");
const brush = byId("brush");
const ring = byId("paint-ring");
const ink = canvas.getContext("2d");

/** Strokes in pixels of the picture, oldest first: `{ erases, radius, points }`. */
let strokes = [];
let painted = null; // the address of the picture that they are on
let wanted = null; // that of the picture that was asked for last
let at = { x: 0, y: 0 };
let stroke = null; // the one that is being drawn

/**
 * Let a mask be painted over the picture at `href`; strokes on the same picture are there again.
 *
 * @returns {Promise<File | null>} the mask, of the picture's size; null when none was wanted
 */
export async function paintMask(href) {
  wanted = href;
  under.src = href;
  try {
    await under.decode();
  } catch (problem) {
    if (wanted === href) throw problem;
  }
  if (wanted !== href || dialog.open) return null; // another was asked for meanwhile
  if (painted !== href) strokes = [];
  painted = href;
  canvas.width = under.naturalWidth;
  canvas.height = under.naturalHeight;
  at = { x: canvas.width / 2, y: canvas.height / 2 };
  redraw();
  dialog.returnValue = "";
  dialog.showModal();
  canvas.focus();
  moveRing();
  await new Promise((resolve) => { dialog.addEventListener("close", resolve, { once: true }); });
  return dialog.returnValue === "use" ? asFile() : null;
}

/** White on black. What is half covered at an edge is grey, and blends. */
async function asFile() {
  const sheet = new OffscreenCanvas(canvas.width, canvas.height);
  const white = sheet.getContext("2d");
  white.drawImage(canvas, 0, 0);
  white.globalCompositeOperation = "source-in";
  white.fillStyle = "#fff";
  white.fillRect(0, 0, sheet.width, sheet.height);
  white.globalCompositeOperation = "destination-over";
  white.fillStyle = "#000";
  white.fillRect(0, 0, sheet.width, sheet.height);
  return new File([await sheet.convertToBlob()], "mask.png", { type: "image/png" });
}

function redraw() {
  ink.clearRect(0, 0, canvas.width, canvas.height);
  strokes.forEach(draw);
  byId("paint-undo").disabled = strokes.length === 0;
  byId("paint-clear").disabled = strokes.length === 0;
  byId("paint-use").disabled = !strokes.some(({ erases }) => !erases);
}

function draw({ erases, radius, points }) {
  ink.globalCompositeOperation = erases ? "destination-out" : "source-over";
  ink.strokeStyle = PAINT;
  ink.fillStyle = PAINT;
  ink.lineCap = "round";
  ink.lineJoin = "round";
  ink.lineWidth = 2 * radius;
  ink.beginPath();
  ink.moveTo(points[0].x, points[0].y);
  for (const { x, y } of points) ink.lineTo(x, y);
  ink.stroke();
  const { x, y } = points[0];  // a line of no length is none
  ink.beginPath();
  ink.arc(x, y, radius, 0, 2 * Math.PI);
  ink.fill();
}

/** The brush's radius: half its share of the shorter side. */
const radius = () => (brush.value / 200) * Math.min(canvas.width, canvas.height);

function begin() {
  stroke = { erases: byId("paint-erases").checked, radius: radius(), points: [at] };
  strokes.push(stroke);
  redraw();
}

function goOn() {
  stroke.points.push(at);
  draw({ ...stroke, points: stroke.points.slice(-2) });
}

const inside = (value, most) => Math.min(Math.max(value, 0), most);

function moveTo(x, y) {
  at = { x: inside(x, canvas.width), y: inside(y, canvas.height) };
  moveRing();
}

function moveRing() {
  const scale = canvas.clientWidth / canvas.width;
  ring.style.setProperty("--size", `${2 * radius() * scale}px`);
  ring.style.setProperty("--left", `${canvas.offsetLeft + at.x * scale}px`);
  ring.style.setProperty("--top", `${canvas.offsetTop + at.y * scale}px`);
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  begin();
});

canvas.addEventListener("pointermove", (event) => {
  const scale = canvas.width / canvas.clientWidth;
  for (const each of event.getCoalescedEvents?.() ?? [event]) {
    const box = canvas.getBoundingClientRect();
    moveTo((each.clientX - box.left) * scale, (each.clientY - box.top) * scale);
    if (stroke) goOn();
  }
});

for (const over of ["pointerup", "pointercancel"])
  canvas.addEventListener(over, () => { stroke = null; });

// By keys: arrows move the brush by its radius, with Shift by a fifth of that; the space bar paints.
canvas.addEventListener("keydown", (event) => {
  const step = radius() * (event.shiftKey ? 0.2 : 1);
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (way) moveTo(at.x + way[0] * step, at.y + way[1] * step);
  else if (event.key === " ") {
    begin();
    stroke = null;
    announce(byId("paint-erases").checked ? "Erased" : "Painted");
  } else return;
  event.preventDefault();
});

brush.addEventListener("input", moveRing);
byId("paint-undo").addEventListener("click", () => {
  strokes.pop();
  redraw();
});
byId("paint-clear").addEventListener("click", () => {
  strokes = [];
  redraw();
});
