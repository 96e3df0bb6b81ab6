// Weighted prompts, learned words and LoRAs, as far as the chosen model has them.

import { byId, make } from "../common/elements.js";

const LONGEST_WEIGHT = 4;
const weighting = byId("prompt_weighting");
const box = byId("loras");
const controls = () => [...box.querySelectorAll("input")];
const filled = () => controls().filter(({ value }) => value !== "");

/** Offer what `model` has; weights that were typed for a LoRA of the same name stay. */
export function offerStyle(model) {
  const typed = readStyle().loras ?? [];
  weighting.disabled = !model.prompt_weighting;
  box.replaceChildren(...model.loras.map(field));
  useLoras(typed);
  const words = model.embeddings.map(({ token }) => token).join(" ");
  byId("words").textContent = words && `Words of the model's own: ${words}`;
  byId("style").hidden = !(model.prompt_weighting || model.loras.length || words);
}

/** Put the style of a request into the fields. */
export function useStyle({ prompt_weighting: weigh, loras }) {
  if (weigh !== undefined) weighting.checked = weigh;
  if (loras) useLoras(loras);
}

/** What was chosen, in the fields of a request. */
export function readStyle() {
  const loras = filled().map(({ name, value }) => ({ name, weight: Number(value) }));
  return {
    ...(weighting.checked && !weighting.disabled ? { prompt_weighting: true } : {}),
    ...(loras.length ? { loras } : {}),
  };
}

/** The field that an error of the service is about, or null. */
export function styleControl(field) {
  if (field === "prompt_weighting") return weighting;
  const [list, index] = field.split(".");
  return list === "loras" ? (filled()[Number(index)] ?? null) : null;
}

function useLoras(loras) {
  for (const control of controls()) {
    control.value = loras.find(({ name }) => name === control.name)?.weight ?? "";
  }
}

function field({ name, title }) {
  const id = `lora-${name}`;
  const control = make("input", { id, name, type: "number", step: "any", placeholder: "not used" });
  Object.assign(control, { min: -LONGEST_WEIGHT, max: LONGEST_WEIGHT, inputMode: "decimal" });
  return make("div", { className: "field" },
    make("label", { htmlFor: id, textContent: `${title || name}, weight` }), control);
}
