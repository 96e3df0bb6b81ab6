// The picture that a request starts from, and the mask that says which part of it is drawn anew.

import { byId } from "../common/elements.js";
import { paintMask } from "./painter.js";
import { addressOf, PictureField } from "./pictures.js";

let image;
let mask;

/** Tell `change` of the picture that was chosen (the upload, or null), and `refuse` of what was refused. */
export function startPictures(change, refuse) {
  mask = fieldOf("mask", () => {
    follow();
    byId("request").dispatchEvent(new Event("input"));
  }, refuse);
  image = fieldOf("image", (upload) => {
    if (upload === null) mask.show(null);
    follow();
    change(upload);
  }, refuse, () => {
    mask.show(null);  // it was drawn for another picture
    follow();
  });
  byId("mask-paint").addEventListener("click", async () => {
    const painted = await paintMask(addressOf(image.id)).catch(() => refuse(
      new Error("The picture cannot be shown any more; choose it again.")));
    if (painted) mask.take(painted);
  });
}

/** The fields of a request that name pictures; none where it begins from noise. */
export const readStart = () =>
  Object.fromEntries(Object.entries({ image: image.id, mask: mask.id }).filter(([, id]) => id !== null));

/** Start from what `request` started from. */
export function useStart(request) {
  if (request.image === undefined) return;
  image.show(request.image);
  mask.show(request.mask ?? null);
  follow();
}

/** A picture field whose elements are named by what the request calls it. */
function fieldOf(name, change, refuse, leave) {
  const parts = { box: "drop", state: "state", shown: "shown", forget: "forget" };
  const elements = Object.entries(parts).map(([part, id]) => [part, byId(`${name}-${id}`)]);
  return new PictureField({ input: byId(name), ...Object.fromEntries(elements) }, change, refuse, leave);
}

function follow() {
  byId("strength").disabled = image.id === null;
  byId("strength").placeholder = mask.id === null ? "0.8" : "1";
  byId("mask-field").hidden = image.id === null;
  if (image.id !== null) byId("start").open = true;
}
