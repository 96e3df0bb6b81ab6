// The picture that a request starts from: chosen or dropped, uploaded at once, named by its id.

import * as api from "./api.js";
import { announce, byId } from "./elements.js";
import { pixels } from "./wording.js";

const HINT = "PNG, JPEG or WebP. Choose one, or drop it here.";
const AGAIN = "The picture that was chosen before.";

const nothing = { image: null, mask: null };
let start = nothing;
let onChange;

/** Tell `change` of what was chosen (the upload, or null), and `refuse` of what was refused. */
export function startPictures(change, refuse) {
  onChange = change;
  const drop = byId("drop");
  byId("image").addEventListener("change", ({ target }) => take(target.files[0], refuse));
  byId("forget").addEventListener("click", () => {
    show(nothing);
    onChange(null);
    byId("image").focus();
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
    });
  }
  drop.addEventListener("drop", ({ dataTransfer }) => take(dataTransfer.files[0], refuse));
}

/** The fields of a request that name pictures; none where it begins from noise. */
export const readStart = () =>
  Object.fromEntries(Object.entries(start).filter(([, id]) => id !== null));

/** Start from what `request` started from. */
export function useStart({ image, mask }) {
  if (image === undefined) return;
  show(image ? { image, mask: mask ?? null } : nothing, AGAIN);
}

async function take(file, refuse) {
  if (!file) return;
  refuse(null);
  byId("image-state").textContent = "Uploading…";
  try {
    const upload = await api.upload(file);
    show({ image: upload.id, mask: null }, pixels(upload));
    byId("image-shown").src = await asUrl(file);
    byId("image-shown").hidden = false;
    announce("The picture is uploaded.");
    onChange(upload);
  } catch (problem) {
    show(nothing);
    problem.errors = (problem.errors ?? []).map((error) => ({ ...error, field: "image" }));
    refuse(problem);
  }
}

function show(chosen, text = HINT) {
  start = chosen;
  const some = chosen.image !== null;
  byId("image-state").textContent = some ? text : HINT;
  byId("image-shown").hidden = true;
  byId("forget").hidden = !some;
  byId("strength").disabled = !some;
  if (some) byId("start").open = true;
  else byId("image").value = "";
}

/** The page's policy lets pictures come from data URLs, and not from blobs. */
function asUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
