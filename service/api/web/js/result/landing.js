// A Deep Zoom pyramid whose tiles exist one by one, as the service tells of them.

import { patiently, readText } from "../common/api.js";

const { DziTileSource } = window.OpenSeadragon;

const keyOf = ({ level, column, row }) => `${level}/${column}_${row}`;

/** Read a Deep Zoom descriptor: whatever tile size, overlap and format the service uses. */
async function describe(href) {
  const text = await patiently(() => readText(href));
  const image = new DOMParser().parseFromString(text, "application/xml").documentElement;
  const size = image.querySelector("Size");
  return {
    width: Number(size.getAttribute("Width")),
    height: Number(size.getAttribute("Height")),
    tileSize: Number(image.getAttribute("TileSize")),
    tileOverlap: Number(image.getAttribute("Overlap")),
    fileFormat: image.getAttribute("Format"),
    tilesUrl: href.replace(/\.dzi$/, "_files/"),
  };
}

/** The tiles of one picture. A viewer asks `tileExists`; events call `land`. */
export class LandingTiles extends DziTileSource {
  /** @param {boolean} complete whether every tile is there already */
  static async open(href, complete) {
    return new LandingTiles(await describe(href), complete);
  }

  constructor(description, complete) {
    super(description);
    this.complete = complete;
    this.landed = new Set();
    this.settled = new WeakSet(); // tiles that are not to be revived
  }

  /** A tile is stored: from now on it may be fetched. */
  land(tile) {
    this.landed.add(keyOf(tile));
  }

  tileExists(level, column, row) {
    const inside = super.tileExists(level, column, row);
    return inside && (this.complete || this.landed.has(keyOf({ level, column, row })));
  }

  /** The viewer remembers that a tile did not exist; tell it once that the tile does now. */
  revive(tile) {
    if (tile.exists || this.settled.has(tile)) return;
    if (!this.tileExists(tile.level, tile.x, tile.y)) return;
    this.settled.add(tile);
    tile.exists = true;
  }

  /** A tile failed to load, which the viewer marks in the same way; call the answer to allow another try. */
  fail(tile) {
    this.settled.add(tile);
    return () => this.settled.delete(tile);
  }
}
