// Read the recipe in a PNG: chosen at the prompt, or dropped anywhere but on a field for pictures.

import * as api from "../common/api.js";
import { announce, byId } from "../common/elements.js";

const field = byId("recipe-file");
const NOTHING = { image: null, mask: null, loras: [], controls: [], image_prompt: null };

/**
 * Read what is chosen or dropped from now on.
 *
 * @param {(request: object) => string[]} use takes a recipe; returns what it has no place for
 * @param {(problem: Error | null) => void} complain hears of what is none
 */
export function startReading(use, complain) {
  let newest = null;
  const read = async (file) => {
    if (!file) return;
    newest = file;
    complain(null);
    try {
      const { request } = await api.readRecipe(file);
      if (newest !== file) return;
      const left = use({ ...NOTHING, ...request });
      const but = left.length ? ` Not offered here, so left out: ${left.join(", ")}.` : "";
      byId("waiting").textContent = `The recipe of ${file.name} is in the form.${but}`;
    } catch (problem) {
      if (newest !== file) return;
      problem.errors = (problem.errors ?? []).map((error) => ({ ...error, control: field }));
      complain(problem);
      announce(problem.message);
    }
  };
  field.addEventListener("change", async () => {
    const [file] = field.files;
    field.value = ""; // so that the same one can be chosen again
    await read(file);
  });
  field.disabled = false;
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      const { target, dataTransfer } = event;
      const carriesFiles = dataTransfer?.types.includes("Files");
      const mine = carriesFiles && !target.closest?.(".drop, dialog");
      document.body.classList.toggle("dropping", Boolean(mine) && kind === "dragover");
      if (!mine) return;
      event.preventDefault();
      if (kind === "drop") read(dataTransfer.files[0]);
    });
  }
}
