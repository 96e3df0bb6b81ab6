// Two pictures in one place: the left one lies over the right one and is cut off at the divider.
// One viewer shows both, so they cannot but zoom and move together.

import { byId } from "../common/elements.js";

const { OpenSeadragon } = window;

const divide = byId("divide");

export class Comparison {
  /** @param {import("./viewer.js").Viewer} viewer */
  constructor(viewer) {
    this.osd = viewer.osd;
    this.left = null;
    divide.addEventListener("input", () => this.#cut());
    for (const happened of ["viewport-change", "resize", "open"])
      this.osd.addHandler(happened, () => this.#cut());
  }

  /** Begin to compare `item`, which lies on top, with what lies under it. */
  start(item, leftName, rightName) {
    this.left = item;
    byId("slider-left").textContent = leftName;
    byId("slider-right").textContent = rightName;
    divide.setAttribute("aria-valuetext", valueText(leftName));
    divide.value = 50;
    byId("slider").hidden = false;
    this.#cut();
  }

  stop() {
    this.left = null;
    byId("slider").hidden = true;
  }

  #cut() {
    if (!this.left) return;
    const size = this.left.getContentSize();
    const line = new OpenSeadragon.Point(dividerPixels(), 0);
    const { x } = this.left.viewerElementToImageCoordinates(line);
    const width = Math.min(Math.max(x, 0), size.x);
    this.left.setOpacity(width > 0 ? 1 : 0);
    this.left.setClip(new OpenSeadragon.Rect(0, 0, Math.max(width, 1), size.y));
    divide.setAttribute("aria-valuetext", valueText(byId("slider-left").textContent));
  }
}

const valueText = (name) => `${Math.round(divide.value)} percent ${name}`;

/** Where the middle of the range's thumb is: it stays inside, half its width from either end. */
function dividerPixels() {
  const thumb = parseFloat(getComputedStyle(divide).getPropertyValue("--thumb"))
    * parseFloat(getComputedStyle(document.documentElement).fontSize);
  return thumb / 2 + (divide.value / 100) * (divide.clientWidth - thumb);
}
