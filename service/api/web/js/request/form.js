// The request form: a model's limits and presets, what was typed, and what was wrong with it.

import { byId, make } from "../common/elements.js";
import { guideControl, offerGuides, readGuides, startGuides, useGuides } from "./guides.js";
import { drawingModels, modelNamed } from "../common/models.js";
import { offerOptions, optionControl, readOptions, useOptions } from "./options.js";
import { isUploading, uploadsDone } from "./pictures.js";
import { dimensions, dimensionsLike, SHAPES, sidesOf } from "./sizes.js";
import { readStart, startPictures, useStart } from "./start.js";
import { offerStyle, readStyle, styleControl, useStyle } from "./style.js";
import { methodTitle, pixels, schedulerTitle } from "../common/wording.js";

const DRAFT = "hidiffusion.draft";
const NUMBERS = ["width", "height", "num_inference_steps", "guidance_scale", "seed", "strength", "n"];
const TEXTS = ["prompt", "negative_prompt", "model", "method", "scheduler", "output_format"];
const MAX_DRAWN_SEED = 2 ** 32;
const LISTED_CLASSES = 40;

const form = byId("request");
let wishedMethod = null;

/** Offer the models, restore what was typed before, and call `onSubmit` with each request. */
export function startForm(onSubmit) {
  const typed = typedAlready();
  const models = drawingModels();
  fill("model", models.map((each) => [each.name, each.title || each.name]));
  startPictures(takeShape, complain);
  startGuides(takeMap, complain);
  offer(models[0]);
  useRequest({ ...readDraft(), ...typed });
  byId("model").addEventListener("change", () => offer(chosenModel()));
  byId("method").addEventListener("change", (event) => {
    wishedMethod = event.target.value;
    showOptions();
  });
  byId("draw").addEventListener("click", drawSeed);
  for (const side of ["width", "height"]) byId(side).addEventListener("input", showChoice);
  form.addEventListener("input", () => localStorage.setItem(DRAFT, draft()));
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (byId("submit").disabled) return;
    complain(null);
    byId("submit").disabled = true;
    byId("waiting").textContent = isUploading() ? "Waiting for the picture to be uploaded." : "";
    try {
      if (await uploadsDone()) await onSubmit(asked());
    } catch (problem) {
      complain(problem);
    } finally {
      byId("waiting").textContent = "";
      byId("submit").disabled = false;
    }
  });
  byId("start").inert = false;
  byId("submit").disabled = false;
}

/** What was typed while the models were on their way. */
function typedAlready() {
  const controls = [...TEXTS, ...NUMBERS].map(byId);
  return Object.fromEntries(controls
    .filter(({ value, defaultValue }) => defaultValue !== undefined && value !== defaultValue)
    .map(({ name, value }) => [name, value]));
}

const chosenModel = () => modelNamed(byId("model").value);

/**
 * Put a request's values into the form; fields it leaves out stay as they are.
 *
 * @returns {string[]} the values that the form has no place for
 */
export function useRequest(request) {
  const left = [];
  if (drawingModels().some(({ name }) => name === request.model)) {
    byId("model").value = request.model;
    offer(chosenModel());
  }
  for (const name of [...TEXTS, ...NUMBERS]) {
    const control = byId(name);
    const value = request[name];
    if (value === undefined || value === null) continue;
    if (name === "scheduler") offerVariant(control, value);
    if (control.options && ![...control.options].some((each) => each.value === value)) left.push(value);
    else control.value = value;
  }
  wishedMethod = request.method ?? wishedMethod;
  useStart(request);
  showChoice();
  useOptions(request.method_options ?? {});
  useStyle(request);
  useGuides(request);
  return left;
}

/** Schedulers come with variants, `+karras`, of which the list has the plain ones. */
function offerVariant(control, scheduler) {
  const known = [...control.options].map(({ value }) => value);
  const plain = scheduler.split("+")[0];
  if (known.includes(plain) && !known.includes(scheduler))
    control.add(new Option(schedulerTitle(scheduler), scheduler));
}

/** Draw the next picture from the result of a generation; what else was typed stays. */
export function startFrom({ id, request, result }) {
  const prompt = byId("prompt").value || request.prompt;
  useRequest({ prompt, image: id, mask: null });
  takeShape(result);
}

/** Show what the service refused, each error at its field; null clears. */
export function complain(problem) {
  for (const old of form.querySelectorAll(".wrong")) old.remove();
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.setAttribute("aria-describedby", control.dataset.hints);
  }
  const homeless = (problem?.errors ?? []).filter((error) => !blame(error));
  const general = homeless.map((error) => `${error.field}: ${error.description}`).join("; ");
  const text = problem?.errors?.length ? general : problem?.message;
  byId("problem").textContent = text ?? "";
  form.querySelector("[aria-invalid]")?.focus();
}

function blame({ field, description, control = controlOf(field) }) {
  if (!control) return false;
  const text = control.validity.valueMissing ? "say what the picture should show" : description;
  const wrong = make("p", { className: "wrong", id: `${control.id}-wrong`, textContent: text });
  control.closest(".field").append(wrong);
  control.setAttribute("aria-invalid", "true");
  control.dataset.hints ??= control.getAttribute("aria-describedby") ?? "";
  control.setAttribute("aria-describedby", `${control.dataset.hints} ${wrong.id}`);
  const folded = control.closest("details");
  if (folded) folded.open = true;
  return true;
}

/** The control that holds a field of a request, or null. */
function controlOf(field) {
  if ([...TEXTS, ...NUMBERS, "image", "mask"].includes(field)) return byId(field);
  return optionControl(field) ?? styleControl(field) ?? guideControl(field);
}

function offer(model) {
  fill("method", model.methods.map((name) => [name, methodTitle(name)]), model.default_method);
  const schedulers = model.schedulers.map((name) => [name, schedulerTitle(name)]);
  fill("scheduler", schedulers, model.default_scheduler);
  byId("num_inference_steps").value = model.default_steps;
  byId("guidance_scale").value = model.default_guidance_scale;
  for (const side of [byId("width"), byId("height")]) {
    side.step = model.size_multiple;
    side.min = model.min_size;
    side.max = model.max_size;
    side.value = model.default_size;
  }
  segments("shapes", SHAPES.map((shape, index) => [index, shape.name, drawing(shape)]));
  segments("sizes", sidesOf(model).map((side) => [side, String(side)]));
  offerClasses(model);
  offerStyle(model);
  offerGuides(model);
  showChoice();
}

/** Say what a model can draw that takes no words. */
function offerClasses({ classes }) {
  byId("classes").hidden = !classes.length;
  const names = classes.slice(0, LISTED_CLASSES).map((each) => each.split(",")[0]);
  const more = classes.length - names.length;
  byId("classes").textContent = `One of ${names.join(", ")}${more ? ` and ${more} others` : ""}`;
}

function fill(id, options, chosen) {
  const nodes = options.map(([value, text]) => new Option(text, value, false, value === chosen));
  byId(id).replaceChildren(...nodes);
}

function segments(id, choices) {
  const labels = choices.map(([value, text, ...more]) => {
    const radio = make("input", { type: "radio", name: id, value, id: `${id}-${value}` });
    radio.addEventListener("change", resize);
    return make("label", { htmlFor: radio.id }, radio, ...more, text);
  });
  byId(id).replaceChildren(...labels);
}

function drawing({ wide, tall }) {
  const outline = make("span", { className: "shape" });
  const scale = 20 / Math.max(wide, tall);
  outline.style.setProperty("--wide", `${wide * scale}px`);
  outline.style.setProperty("--tall", `${tall * scale}px`);
  const room = make("span", { className: "shape-room" }, outline);
  room.setAttribute("aria-hidden", "true");
  return room;
}

function resize() {
  const model = chosenModel();
  const shape = SHAPES[checked("shapes")?.value ?? 0];
  const side = Number(checked("sizes")?.value ?? model.default_size);
  const { width, height } = dimensions(model, side, shape);
  byId("width").value = width;
  byId("height").value = height;
  showChoice();
}

/** Ask for a picture of the shape of the one to start from; null: it was taken away. */
function takeShape(picture) {
  if (picture) {
    const { width, height } = dimensionsLike(chosenModel(), picture);
    byId("width").value = width;
    byId("height").value = height;
  }
  showChoice();
  form.dispatchEvent(new Event("input"));
}

/** A map decides the shape where no picture to start from does. */
function takeMap(map) {
  takeShape(readStart().image ? null : map);
}

const checked = (id) => byId(id).querySelector(":checked");

/** Check the shape and size that the two numbers amount to, and write them out. */
function showChoice() {
  const model = chosenModel();
  const size = { width: Number(byId("width").value), height: Number(byId("height").value) };
  const isShown = (shape, side) => {
    const offered = dimensions(model, side, shape);
    return offered.width === size.width && offered.height === size.height;
  };
  const sides = sidesOf(model);
  const shape = SHAPES.findIndex((each) => sides.some((side) => isShown(each, side)));
  const side = sides.find((each) => shape >= 0 && isShown(SHAPES[shape], each));
  for (const radio of form.querySelectorAll("[name=shapes]"))
    radio.checked = Number(radio.value) === shape;
  for (const radio of form.querySelectorAll("[name=sizes]"))
    radio.checked = Number(radio.value) === side;
  byId("dimensions").textContent = size.width && size.height ? pixels(size) : "";
  if (size.width && size.height) offerMethodsAt(size, model);
}

/** Offer the methods that can draw a size, from a picture if there is one; where the wished one cannot, sample directly. */
function offerMethodsAt({ width, height }, model) {
  const scale = Math.sqrt(width * height) / model.native_size;
  for (const option of byId("method").options) {
    const method = model.method_details.find((each) => each.name === option.value);
    const able = method.takes_pictures || !readStart().image;
    option.disabled = method.min_scale > scale + 1e-9 || !able;
  }
  const usable = (name) => [...byId("method").options].some((each) => each.value === name && !each.disabled);
  byId("method").value = [wishedMethod, model.default_method, "direct"].find(usable) ?? "";
  showOptions();
}

/** The fields of the chosen method's options, where they are not there already. */
function showOptions() {
  const { value } = byId("method");
  if (byId("options").dataset.method === value) return;
  byId("options").dataset.method = value;
  offerOptions(chosenModel().method_details.find((each) => each.name === value));
}

function drawSeed() {
  byId("seed").value = Math.floor(Math.random() * MAX_DRAWN_SEED);
  byId("seed").dispatchEvent(new Event("input", { bubbles: true }));
}

/** What the form asks for; numbers left empty are left to the service. */
function asked() {
  const request = {};
  for (const name of TEXTS) request[name] = byId(name).value;
  for (const name of NUMBERS) {
    if (byId(name).value !== "" && !byId(name).disabled) request[name] = Number(byId(name).value);
  }
  Object.assign(request, readStart(), readStyle(), readGuides());
  const options = readOptions();
  if (Object.keys(options).length) request.method_options = options;
  return request;
}

/** What was typed, with the method that was wished for even where the size does not allow it. */
const draft = () => JSON.stringify({ ...asked(), method: wishedMethod ?? undefined });

function readDraft() {
  try {
    return JSON.parse(localStorage.getItem(DRAFT)) ?? {};
  } catch {
    return {};
  }
}
