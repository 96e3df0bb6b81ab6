// One generation, from the queue to the finished picture; or two, side by side.

import * as api from "../common/api.js";
import { Comparison } from "./compare.js";
import { distinctNames } from "./differences.js";
import { announce, byId } from "../common/elements.js";
import { follow } from "./events.js";
import { button, offersFor } from "./offers.js";
import { Progress } from "./progress.js";
import { hideRecipe, showRecipe } from "./recipe.js";
import { Viewer } from "./viewer.js";
import { methodTitle, pixels } from "../common/wording.js";

const PLACE_MILLISECONDS = 3000;
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

export class Stage {
  /** @param {object} tell hears of changes and wishes, as `offersFor` has it */
  constructor(tell) {
    this.tell = tell;
    this.viewer = new Viewer();
    this.comparison = new Comparison(this.viewer);
    this.progress = new Progress();
    this.turn = 0; // counts what was shown, so that late answers for earlier ones are dropped
    this.stops = [];
  }

  /** Show nothing. */
  clear() {
    this.turn += 1;
    for (const stop of this.stops.splice(0)) stop();
    clearTimeout(this.placeTimer);
    this.waitingFor = null;
    this.#forget();
    this.comparison.stop();
    this.viewer.clear();
    this.progress.hide();
    hideRecipe();
    byId("preview").hidden = true;
    byId("preview").removeAttribute("src");
    byId("connection").hidden = true;
    byId("stage-actions").replaceChildren();
    this.#head("Your picture", "", "empty");
  }

  /** Show one generation, wherever it stands. */
  async show(id) {
    this.clear();
    const turn = this.turn;
    const generation = await readPatiently(id);
    if (turn !== this.turn) return;
    const { request } = generation;
    this.#head(request.prompt, `${pixels(generation.result ?? request)} · ${methodTitle(request.method)} · seed ${request.seed}`,
      "started");
    if (FINAL.has(generation.status)) this.#goOn(this.#finish(generation));
    else this.#follow(generation);
  }

  /** Show two finished generations over each other; one that is not finished is waited for. */
  async compare(leftId, rightId) {
    this.clear();
    const turn = this.turn;
    const [left, right] = await Promise.all([leftId, rightId].map(readPatiently));
    if (turn !== this.turn) return;
    const names = distinctNames(left, right);
    this.#head(left.request.prompt, names.join(" beside "), "started");
    this.#goOn(this.#layOver(left, right, names));
  }

  async #layOver(left, right, [leftName, rightName]) {
    const { turn } = this;
    const finished = await Promise.all([this.#finished(left), this.#finished(right)]);
    if (turn !== this.turn) return;
    const unfit = finished.find(({ status }) => status !== "succeeded");
    if (unfit) {
      this.progress.ended(`There is nothing to compare: one is ${unfit.status}.`, "failed");
      return;
    }
    this.progress.hide();
    byId("canvas").dataset.phase = "done";
    const label = `${leftName} and ${rightName} of ${left.request.prompt}`;
    if (!await this.viewer.show({ href: shownBy(finished[1]), complete: true, label })) return;
    const item = await this.viewer.add(shownBy(finished[0]), true);
    if (!item) return;
    this.comparison.start(item, leftName, rightName);
    announce(`Comparing ${leftName} with ${rightName}`);
  }

  /** Tell what goes wrong in `work`, which nobody waits for, unless something else is shown by then. */
  #goOn(work) {
    const { turn } = this;
    work.catch((problem) => { if (turn === this.turn) this.tell.problem(problem); });
  }

  #head(title, facts, phase) {
    byId("stage-title").textContent = title;
    byId("stage-facts").textContent = facts;
    byId("canvas").dataset.phase = phase;
    document.title = phase === "empty" ? "HiDiffusion" : `${title} · HiDiffusion`;
  }

  #follow(generation) {
    const stop = button("stop", "Stop", () => api.cancel(generation), this.tell.problem);
    byId("stage-actions").replaceChildren(stop);
    this.#watch(generation, (type, data) => this.#take(generation, type, data));
  }

  #watch(generation, onEvent) {
    const onConnection = (connected) => {
      byId("connection").hidden = connected;
      byId("connection").textContent = connected ? "" : "Connection lost, trying again…";
    };
    const stop = follow(generation.links.events, onEvent, onConnection);
    this.stops.push(stop);
  }

  /** The record once it is final; its progress is shown meanwhile. */
  #finished(generation) {
    if (FINAL.has(generation.status)) return generation;
    return new Promise((resolve) => {
      this.#watch(generation, (type, data) => {
        if (FINAL.has(type)) {
          this.tell.changed();
          resolve(readPatiently(generation.id));
        } else this.#tell(generation, type, data);
      });
    });
  }

  #take(generation, type, data) {
    if (type === "tile") this.#land(generation, data.tile);
    if (type === "preview" && !this.opening) this.#preview(generation, data);
    if (type === "started") this.#begin();
    if (FINAL.has(type)) {
      this.waitingFor = null;
      this.#goOn(this.#end(generation, this.turn));
    } else this.#tell(generation, type, data);
  }

  /** Show how far it is. */
  #tell(generation, type, data) {
    this.waitingFor = type === "queued" ? generation.id : null;
    if (type === "queued") this.#tellPlace(generation.id);
    else this.progress[type]?.(data);
  }

  /** Tell the place in the queue, again and again while it waits. */
  async #tellPlace(id) {
    const { queue } = await api.read(id).catch(() => ({}));
    if (this.waitingFor !== id) return;
    this.progress.queued(queue ?? null);
    clearTimeout(this.placeTimer);
    this.placeTimer = setTimeout(() => this.#tellPlace(id), PLACE_MILLISECONDS);
  }

  /** An attempt begins: tiles and previews of the one before are not its own. */
  #begin() {
    this.#forget();
    this.viewer.clear();
  }

  #forget() {
    this.item = null; // the viewer's, once it has opened
    this.opening = null; // the promise of it
    this.landed = [];
  }

  #preview({ request }, { href }) {
    const preview = byId("preview");
    byId("canvas").dataset.phase = "denoising";
    preview.src = href;
    preview.alt = `Preview of ${request.prompt}`;
    preview.hidden = false;
  }

  /** A tile landed: open the viewer for the first; the item takes those that come meanwhile. */
  #land(generation, tile) {
    this.landed.push(tile);
    byId("canvas").dataset.phase = "decoding";
    if (!this.opening) {
      this.opening = this.#open(generation, false);
      this.#goOn(this.opening);
    }
    if (this.item) this.viewer.land(this.item, [tile]);
  }

  async #open({ id, links, request }, complete) {
    const turn = this.turn;
    const base = byId("preview").src || null;
    const href = shownBy({ links }) ?? shownBy(await readPatiently(id));
    const item = await this.viewer.show({ href, complete, label: request.prompt, base });
    if (!item || turn !== this.turn) return;
    this.item = item;
    this.viewer.land(item, this.landed);
    byId("preview").hidden = true;
  }

  async #end({ id }, turn) {
    const generation = await readPatiently(id);
    this.tell.changed();
    if (turn === this.turn) await this.#finish(generation);
  }

  async #finish(generation) {
    const { turn } = this;
    const { status, error } = generation;
    byId("stage-actions").replaceChildren(...offersFor(generation, this.tell));
    showRecipe(generation);
    if (status === "failed") this.progress.ended(`Failed: ${error.detail}`, "failed");
    if (status === "cancelled") this.progress.ended("Stopped", "cancelled");
    if (status !== "succeeded") {
      byId("canvas").dataset.phase = "ended";
      return;
    }
    byId("canvas").dataset.phase = "done";
    if (!byId("progress").hidden) announce("Done. The picture is complete.");
    this.progress.hide();
    this.opening ??= this.#open(generation, true);
    await this.opening;
    if (turn === this.turn && this.item) this.viewer.complete(this.item);
  }
}

/** What a viewer opens: the tiles, or the whole picture where there are none. */
const shownBy = ({ links }) => links.tiles ?? links.image;

const readPatiently = (id) => api.patiently(() => api.read(id));
