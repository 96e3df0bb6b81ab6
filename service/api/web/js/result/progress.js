// How far a generation is: seen as bars and a line of text, heard as a few announcements.

import { announce, byId, make } from "../common/elements.js";
import { duration, ordinal } from "../common/wording.js";

const PHASES = [
  ["queued", "Waiting"],
  ["denoising", "Denoising"],
  ["decoding", "Decoding"],
];

/** Hearing of every step would be a nuisance; of every quarter, it is not. */
const QUARTERS = 4;

export class Progress {
  constructor() {
    this.bars = PHASES.map(([, name]) => make("progress", { value: 0, max: 1, "aria-label": name }));
    const items = PHASES.map(([, name], index) => make("li", {}, this.bars[index], name));
    byId("phases").replaceChildren(...items);
  }

  hide() {
    byId("progress").hidden = true;
    byId("status").textContent = "";
    this.heard = "";
  }

  /** @param {{position: number, estimated_wait_seconds: number | null} | null} place */
  queued(place) {
    this.#show("queued", 0, 1);
    if (!place) return this.#say("Waiting for a worker");
    const wait = place.estimated_wait_seconds;
    const soon = wait === null ? "" : `, about ${duration(wait)}`;
    return this.#say(place.position === 1 ? `Next in the queue${soon}`
      : `${ordinal(place.position)} in the queue${soon}`);
  }

  started() {
    this.#show("denoising", 0, 1);
    this.#say("Preparing");
  }

  step({ step, total, eta_seconds: eta }) {
    this.#show("denoising", step, total);
    const left = step < total ? `, ${duration(eta)} left` : "";
    this.#say(`Step ${step} of ${total}${left}`, "Denoising", step / total);
  }

  tile({ done, total }) {
    this.#show("decoding", done, total);
    this.#say(`Tile ${done} of ${total}`, "Decoding", done / total);
  }

  /** Everything is computed; the store does not take it at the moment. */
  waiting_for_store() {
    this.#say("Waiting for the store");
  }

  /** The end that is not success: the bars stay where they were. */
  ended(text, state) {
    byId("progress").hidden = false;
    byId("status").dataset.state = state;
    this.#say(text);
  }

  #show(phase, value, max) {
    const now = PHASES.findIndex(([each]) => each === phase);
    byId("progress").hidden = false;
    byId("status").dataset.state = phase;
    this.bars.forEach((bar, index) => {
      bar.max = max;
      bar.value = index < now ? max : index === now ? value : 0;
      if (index === now) bar.parentElement.setAttribute("aria-current", "step");
      else bar.parentElement.removeAttribute("aria-current");
    });
  }

  /** Show `text`; say it too, or, where `share` counts up, say the quarters of it. */
  #say(text, phase = null, share = 0) {
    byId("status").textContent = text;
    const percent = (Math.floor(share * QUARTERS) / QUARTERS) * 100;
    const spoken = phase ? `${phase}, ${percent} percent` : text;
    if (spoken !== this.heard) announce(spoken);
    this.heard = spoken;
  }
}
