// A field for one picture: chosen or dropped, uploaded at once, named in requests by its id.

import * as api from "../common/api.js";
import { announce } from "../common/elements.js";
import { pixels } from "../common/wording.js";

const HINT = "PNG, JPEG or WebP. Choose one, or drop it here.";
const AGAIN = "The picture that was chosen before.";

/** The newest upload of each field while it is under way: a promise of whether it went well. */
const underWay = new Map();

export const isUploading = () => underWay.size > 0;

/** Wait for the uploads that are under way; returns whether none of them was refused. */
export async function uploadsDone() {
  while (isUploading()) {
    const ends = await Promise.all(underWay.values());
    if (ends.includes(false)) return false;
  }
  return true;
}

export class PictureField {
  /** The upload that is chosen, or null. */
  id = null;

  #parts;
  #tell;
  #latest = null;

  /**
   * Bring elements together: `box` takes what is dropped, `input` what is chosen, `state` says in
   * words and `shown` in a picture what is there, `forget` takes it away. Tell `change` of what was
   * chosen (the upload, or null), `refuse` of what was refused (null clears), and `leave` as soon as
   * another picture begins to take the place of this one.
   */
  constructor(parts, change, refuse, leave = () => {}) {
    this.#parts = parts;
    this.#tell = { change, refuse, leave };
    const { box, input, forget } = parts;
    input.accept = "image/png,image/jpeg,image/webp";
    parts.shown.addEventListener("error", () => { parts.shown.hidden = true; });  // it is gone by now
    input.addEventListener("change", () => this.take(input.files[0]));
    forget.addEventListener("click", () => {
      this.show(null);
      change(null);
      input.focus();
    });
    for (const kind of ["dragover", "dragleave", "drop"]) {
      box.addEventListener(kind, (event) => {
        event.preventDefault();
        box.classList.toggle("over", kind === "dragover");
      });
    }
    box.addEventListener("drop", ({ dataTransfer }) => this.take(dataTransfer.files[0]));
    this.show(null);
  }

  /** Have the picture `id`, an upload's or a generation's, or none. */
  show(id, text = AGAIN) {
    const { input, state, shown, forget } = this.#parts;
    this.id = id;
    this.#latest = null;
    underWay.delete(this);
    state.textContent = id === null ? HINT : text;
    shown.hidden = id === null;
    if (id === null) shown.removeAttribute("src");
    else shown.src = addressOf(id);
    forget.hidden = id === null;
    if (id === null) input.value = "";
  }

  /** Have `file`, as if it had been chosen. */
  take(file) {
    if (!file) return;
    this.#tell.leave();
    underWay.set(this, this.#upload(file));
  }

  /** Upload `file`; returns false where it was refused and no other took its place. */
  async #upload(file) {
    const { input, state } = this.#parts;
    const { change, refuse } = this.#tell;
    refuse(null);
    this.#latest = file;
    state.textContent = "Uploading…";
    try {
      const upload = await api.upload(file);
      if (this.#latest !== file) return true;  // another one was chosen meanwhile, or none
      this.show(upload.id, pixels(upload));
      announce("The picture is uploaded.");
      change(upload);
      return true;
    } catch (problem) {
      if (this.#latest !== file) return true;
      this.show(null);
      change(null);
      problem.errors = (problem.errors ?? []).map((error) => ({ ...error, control: input }));
      refuse(problem);
      return false;
    }
  }
}

/** Where a picture is: what was uploaded, or what a generation made. */
export const addressOf = (id) => (id.startsWith("img_")
  ? `/v1/uploads/${id}/image` : `/v1/generations/${encodeURIComponent(id)}/image`);
