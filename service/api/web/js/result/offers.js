// What can be done with a result: compare it, use its settings, go on from it, enlarge it, keep it.

import * as api from "../common/api.js";
import { byId, icon, make } from "../common/elements.js";
import { drawingModels, enlargements, modelNamed } from "../common/models.js";
import { methodTitle, pixels } from "../common/wording.js";

/**
 * The buttons beside a finished generation.
 *
 * @param {object} generation as the service tells of it
 * @param {object} tell `changed()` that there is a new one, `reuse(request)` that its settings are
 *   wanted, `start(generation)` that a new picture is to start from it, `problem(error)` what failed
 */
export function offersFor(generation, tell) {
  const { id, request, status, result, links } = generation;
  const offer = (drawing, text, action) => button(drawing, text, action, tell.problem);
  const draws = drawingModels().some(({ name }) => name === request.model);
  const reuse = draws ? [offer("reuse", "Use settings", () => tell.reuse(request))] : [];
  if (status !== "succeeded") return reuse;
  const comparison = plainer(request);
  const choices = enlargements(result);
  const download = make("a", { className: "link-button", href: links.image });
  download.download = "";
  download.append(icon("download"), "Download");
  return [
    ...(comparison ? [offer("compare", `Compare with ${methodTitle(comparison.method)}`, async () => {
      const twin = await twinOf(comparison);
      tell.changed();
      location.hash = `#/compare/${id}/${twin.id}`;
    })] : []),
    ...reuse,
    offer("start", "Start from this", () => tell.start(generation)),
    ...(choices.length ? [offer("enlarge", titleOf(choices), async () => {
      const choice = choices.length === 1 ? choices[0] : await chosen(choices);
      if (!choice) return;
      const larger = await api.create(
        { model: choice.model.name, image: id, scale: choice.scale, prompt: request.prompt });
      tell.changed();
      location.hash = `#/${larger.id}`;
    })] : []),
    download,
  ];
}

/** Same request, another method: the plain comparison first, for everything but itself; or null. */
function plainer(request) {
  const methods = modelNamed(request.model)?.methods.filter((each) => each !== request.method);
  if (!methods?.length) return null;
  const { method_options: ofThisMethod, ...common } = request;
  return { ...common, method: methods.includes("direct") ? "direct" : methods[0] };
}

/** The generation of `request` that was made before, or else a new one. */
async function twinOf(request) {
  const { generations } = await api.list(100);
  const same = (other) => Object.keys(request).every(
    (name) => JSON.stringify(other[name]) === JSON.stringify(request[name]));
  return generations.find((each) => same(each.request) && !each.error && each.status !== "cancelled")
    ?? api.create(request);
}

const titleOf = (choices) => (choices.length === 1 ? `Upscale ${choices[0].scale}×` : "Upscale this");

/** Ask which of several; null when none after all. */
function chosen(choices) {
  const dialog = byId("enlarge");
  byId("enlarge-choices").replaceChildren(...choices.map((each, index) => {
    const title = each.model.title || each.model.name;
    const text = make("span", { textContent: `${each.scale}× by ${title}` });
    const size = make("span", { className: "hint", textContent: pixels(each) });
    return make("button", { className: "quiet choice", value: index }, text, size);
  }));
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const tell = () => resolve(choices[dialog.returnValue] ?? null);
    dialog.addEventListener("close", tell, { once: true });
  });
}

/** A button with a drawing that cannot be pressed again before it is done. */
export function button(drawing, text, action, onProblem) {
  const made = make("button", { type: "button", className: "quiet" }, icon(drawing), text);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      await action();
    } catch (problem) {
      onProblem(problem);
    }
    made.disabled = false;
  });
  return made;
}
