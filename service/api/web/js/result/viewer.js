// The deep-zoom viewer: pictures over each other in one place, and the buttons around them.

import { byId, iconButton } from "../common/elements.js";
import { LandingTiles } from "./landing.js";

const { OpenSeadragon } = window;

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** While tiles land, the finest are shown well before those of the level the screen needs. */
const FINEST_FIRST_PIXEL_RATIO = 0.125;
const USUAL_PIXEL_RATIO = 0.5;

const RETRY_MILLISECONDS = 2000;
const ZOOM_STEP = 1.6;

const OPTIONS = {
  drawer: "canvas",
  showNavigationControl: false,
  animationTime: still ? 0 : 0.6,
  blendTime: still ? 0 : 0.3,
  maxZoomPixelRatio: 8,
  minZoomImageRatio: 0.7,
  visibilityRatio: 0.6,
  constrainDuringPan: true,
  viewportMargins: { left: 16, top: 16, right: 16, bottom: 16 },
  imageLoaderLimit: 4, // browsers allow six connections, and one is the event stream's
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
};

export class Viewer {
  constructor() {
    this.osd = OpenSeadragon({ element: byId("viewer"), ...OPTIONS });
    this.osd.addHandler("update-tile", ({ tiledImage, tile }) => tiledImage.source.revive?.(tile));
    this.osd.addHandler("tile-load-failed", ({ tiledImage, tile }) => tryLater(tiledImage, tile));
    this.osd.addHandler("canvas-key", keepBrowsersKeys);
    this.shown = 0; // counts what was shown, so that late answers for earlier pictures are dropped
    this.osd.canvas.setAttribute("role", "group");
    byId("zoom").append(...this.#buttons());
  }

  /** Show nothing. */
  clear() {
    this.shown += 1;
    this.osd.world.removeAll();
    this.base = null;
    this.#reveal(false);
  }

  /**
   * Show a picture, tile by tile where it is not complete.
   *
   * @param {{href: string, complete: boolean, label: string, base: string | null}} picture
   *   its descriptor, and a small picture to lie under the tiles that are not there yet
   * @returns the viewer's item, whose `source` takes tiles as they land; null when overtaken
   */
  async show({ href, complete, label, base = null }) {
    this.clear();
    const turn = this.shown;
    this.#reveal(true);
    this.osd.canvas.setAttribute("aria-label", `${label}. Arrow keys move, plus and minus zoom.`);
    if (base) this.#lay(base, turn);
    const item = await this.add(href, complete);
    if (item) this.osd.viewport.goHome(true);
    return item;
  }

  /** Add a picture over what is shown, in the same place; null when overtaken. */
  async add(href, complete) {
    const turn = this.shown;
    const tiled = href.endsWith(".dzi");
    const source = tiled ? await LandingTiles.open(href, complete) : { type: "image", url: href };
    if (turn !== this.shown) return null;
    return new Promise((resolve, reject) => {
      this.osd.addTiledImage({
        tileSource: source,
        width: 1,
        success: ({ item }) => {
          item.minPixelRatio = complete ? USUAL_PIXEL_RATIO : FINEST_FIRST_PIXEL_RATIO;
          resolve(turn === this.shown ? item : this.#drop(item));
        },
        error: reject,
      });
    });
  }

  /** These tiles of `item` are there now. */
  land(item, tiles) {
    for (const tile of tiles) item.source.land(tile);
    lookAgain(item);
  }

  /** All tiles of `item` are there: show the level that the screen needs, and nothing below. */
  complete(item) {
    item.source.complete = true;
    item.minPixelRatio = USUAL_PIXEL_RATIO;
    lookAgain(item);
    const { base } = this;
    // Two frames on, the item has looked: before, it would say that it has all it knew of.
    if (base) twoFramesOn(() => item.whenFullyLoaded(() => this.#drop(base)));
  }

  #lay(url, turn) {
    const success = ({ item }) => {
      if (turn === this.shown) this.base = item;
      else this.#drop(item);
    };
    this.osd.addSimpleImage({ url, width: 1, index: 0, success });
  }

  #drop(item) {
    if (this.osd.world.getIndexOfItem(item) >= 0) this.osd.world.removeItem(item);
    return null;
  }

  #reveal(visible) {
    byId("viewer").classList.toggle("away", !visible);
    byId("zoom").hidden = !visible;
  }

  #zoom(factor) {
    this.osd.viewport.zoomBy(factor);
    this.osd.viewport.applyConstraints();
  }

  #actual() {
    const item = this.osd.world.getItemAt(this.osd.world.getItemCount() - 1);
    if (item) this.osd.viewport.zoomTo(item.imageToViewportZoom(1));
  }

  #buttons() {
    const fullscreen = () =>
      document.fullscreenElement
        ? document.exitFullscreen()
        : byId("canvas").requestFullscreen();
    return [
      iconButton("plus", "Zoom in", () => this.#zoom(ZOOM_STEP)),
      iconButton("minus", "Zoom out", () => this.#zoom(1 / ZOOM_STEP)),
      iconButton("fit", "Show all", () => this.osd.viewport.goHome()),
      iconButton("actual", "One to one", () => this.#actual()),
      ...(document.fullscreenEnabled
        ? [iconButton("fullscreen", "Full screen", fullscreen)]
        : []),
    ];
  }
}

/** An item that has all it knew of asks for no more; setting its clip anew makes it ask. */
function lookAgain(item) {
  item.setClip(item.getClip());
}

/** The connection was lost, or the store did not answer. */
function tryLater(item, tile) {
  const allow = item.source.fail?.(tile);
  if (!allow) return;
  setTimeout(() => {
    allow();
    lookAgain(item);
  }, RETRY_MILLISECONDS);
}

const twoFramesOn = (call) => requestAnimationFrame(() => requestAnimationFrame(call));

/** Letters that the viewer takes for commands stay the browser's when a modifier is held. */
function keepBrowsersKeys(event) {
  const { ctrlKey, metaKey, altKey } = event.originalEvent;
  if (ctrlKey || metaKey || altKey) event.preventDefaultAction = true;
}
