// Maps for the ControlNets of the chosen model, and a picture as a prompt, where it takes one.

import { byId, make } from "../common/elements.js";
import { PictureField } from "./pictures.js";

const LARGEST_SCALE = { controls: 4, image_prompt: 2 };
const NUMBERS = { scale: "Scale", start: "Start", end: "End" };
const box = byId("guide_fields");
let tell;

/** What `group` makes: one for each ControlNet, with its name, and one for the prompt, or null. */
let controls = [];
let prompt = null;

const filled = () => controls.filter(({ picture }) => picture.id !== null);

/** Tell `change` of maps that were chosen (the upload; else null), and `refuse` of what was refused. */
export function startGuides(change, refuse) {
  tell = { change, refuse };
}

/** Offer what `model` has; what was chosen for one of the same name stays, and goes on being uploaded. */
export function offerGuides(model) {
  const before = [...controls, prompt];
  controls = model.controls.map(({ name, title }) =>
    before.find((each) => each?.name === name && each.title === (title || name))
      ?? controlField(name, title || name));
  prompt = model.image_prompt ? prompt ?? promptField() : null;
  const all = prompt ? [...controls, prompt] : controls;
  for (const gone of before.filter((each) => each && !all.includes(each))) gone.picture.show(null);
  box.replaceChildren(...all.map(({ element }) => element));
  byId("guides").hidden = all.length === 0;
  byId("guides-hint").hidden = controls.length === 0;
}

/** Put what guides a request into the fields. */
export function useGuides({ controls: choices, image_prompt: picture }) {
  for (const field of choices ? controls : []) {
    use(field, choices.find(({ name }) => name === field.name));
  }
  if (picture !== undefined && prompt) use(prompt, picture);
}

/** What was chosen, in the fields of a request; numbers left empty are left to the service. */
export function readGuides() {
  const choices = filled().map((field) => ({ name: field.name, ...read(field) }));
  return {
    ...(choices.length ? { controls: choices } : {}),
    ...(prompt?.picture.id ? { image_prompt: read(prompt) } : {}),
  };
}

/** The field that an error of the service is about, or null. */
export function guideControl(path) {
  const [list, ...rest] = path.split(".");
  if (list === "image_prompt") return part(prompt, rest[0]);
  return list === "controls" ? part(filled()[Number(rest[0])], rest[1]) : null;
}

const part = (field, name) => field?.numbers[name] ?? (field ? field.input : null);

function read({ picture, numbers }) {
  const given = Object.entries(numbers).filter(([, { value }]) => value !== "");
  const values = given.map(([name, { value }]) => [name, Number(value)]);
  return { image: picture.id, ...Object.fromEntries(values) };
}

function use({ picture, numbers, follow }, chosen) {
  picture.show(chosen?.image ?? null);
  for (const [name, control] of Object.entries(numbers)) {
    const value = chosen?.[name] ?? "";
    control.value = String(value) === control.placeholder ? "" : value;
  }
  follow();
}

function controlField(name, title) {
  const id = `control-${name}`;
  const numbers = {
    scale: number(`${id}.scale`, "1", LARGEST_SCALE.controls),
    start: number(`${id}.start`, "0", 1),
    end: number(`${id}.end`, "1", 1),
  };
  for (const control of [numbers.start, numbers.end]) control.setAttribute("aria-describedby", "guides-hint");
  return { name, title, ...group(id, title, "Map", numbers, (upload) => tell.change(upload)) };
}

function promptField() {
  const numbers = { scale: number("image_prompt.scale", "1", LARGEST_SCALE.image_prompt) };
  return group("image_prompt", "A picture beside the words", "What to draw", numbers,
    () => tell.change(null));
}

/** A picture under a title, with numbers that are there once it is. */
function group(id, title, label, numbers, change) {
  const input = make("input", { id, type: "file" });
  const state = make("p", { id: `${id}.state`, className: "hint" });
  const shown = make("img", { className: "start", alt: `${title}: ${label}`, hidden: true });
  const forget = make("button", { type: "button", className: "quiet", textContent: "Remove" });
  forget.setAttribute("aria-label", `Remove: ${title}`);
  input.setAttribute("aria-describedby", state.id);
  const drop = labelled(label, input, state, shown);
  drop.classList.add("drop");
  const row = make("div", { className: "row" },
    ...Object.entries(numbers).map(([name, control]) => labelled(NUMBERS[name], control)));
  const element = make("fieldset", { className: "field guide" },
    make("legend", { textContent: title }), drop, row, forget);
  const follow = () => {
    row.hidden = picture.id === null;
    if (picture.id !== null) byId("guides").open = true;
  };
  const picture = new PictureField({ box: drop, input, state, shown, forget }, (upload) => {
    follow();
    change(upload);
  }, tell.refuse);
  follow();
  return { element, picture, input, numbers, follow };
}

const labelled = (label, control, ...more) =>
  make("div", { className: "field" },
    make("label", { htmlFor: control.id, textContent: label }), control, ...more);

function number(id, standard, max) {
  const control = make("input", { id, type: "number", step: "any", placeholder: standard });
  return Object.assign(control, { min: 0, max, inputMode: "decimal" });
}
