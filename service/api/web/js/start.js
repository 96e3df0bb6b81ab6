// The picture that a request starts from.

import { byId } from "./elements.js";
import { PictureField } from "./pictures.js";

let field;
let mask = null;

/** Tell `change` of what was chosen (the upload, or null), and `refuse` of what was refused. */
export function startPictures(change, refuse) {
  const parts = { box: "drop", input: "image", state: "image-state", shown: "image-shown", forget: "forget" };
  const elements = Object.fromEntries(Object.entries(parts).map(([part, id]) => [part, byId(id)]));
  field = new PictureField(elements, (upload) => {
    mask = null;
    follow();
    change(upload);
  }, refuse);
}

/** The fields of a request that name pictures; none where it begins from noise. */
export const readStart = () =>
  Object.fromEntries(Object.entries({ image: field.id, mask }).filter(([, id]) => id !== null));

/** Start from what `request` started from. */
export function useStart(request) {
  if (request.image === undefined) return;
  field.show(request.image);
  mask = request.mask ?? null;
  follow();
}

function follow() {
  byId("strength").disabled = field.id === null;
  if (field.id !== null) byId("start").open = true;
}
