// The options of a method, as the service describes them. What is left empty is left to the service.

import { byId, make } from "../common/elements.js";
import { capital, optionTitle } from "../common/wording.js";

const PREFIX = "method_options.";
const box = byId("method_options");
const controls = () => [...box.querySelectorAll("[name]")];

/** Draw a field for each option of `method`; what was typed for one of the same name stays. */
export function offerOptions(method) {
  const typed = readOptions();
  const entries = Object.entries(method?.options.properties ?? {});
  box.replaceChildren(...entries.map(([name, entry]) => field(name, entry)));
  byId("options").hidden = entries.length === 0;
  useOptions(typed);
}

/** Put values into the fields; those of a result name every option, so the rest is emptied. */
export function useOptions(values) {
  for (const control of controls()) {
    const value = values[control.name];
    const standard = value === undefined || written(value) === control.dataset.standard;
    control.value = standard ? "" : String(value);
  }
}

/** The options that were filled in. */
export function readOptions() {
  const given = controls().filter((control) => control.value.trim() !== "");
  return Object.fromEntries(given.map(({ name, value }) => [name, parsed(value.trim())]));
}

/** The field that an error of the service is about, or null. */
export function optionControl(name) {
  if (!name.startsWith(PREFIX)) return null;
  return controls().find((control) => PREFIX + control.name === name) ?? null;
}

/** Schemas speak of null, the fields of automatic. */
const described = ({ description }) => description.replace(/\bnull is\b/, "automatic is");

const parsed = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);
const written = (value) => (value === null ? "automatic" : String(value));

function field(name, entry) {
  const id = `option-${name}`;
  const control = entry.enum ? choice(entry) : make("input", { inputMode: "decimal", autocomplete: "off" });
  Object.assign(control, { id, name });
  control.dataset.standard = written(entry.default);
  if (!entry.enum) control.placeholder = written(entry.default);
  control.setAttribute("aria-describedby", `${id}-hint`);
  return make("div", { className: "field" },
    make("label", { htmlFor: id, title: name, textContent: optionTitle(name) }),
    control,
    make("p", { id: `${id}-hint`, className: "hint", textContent: described(entry) }));
}

function choice(entry) {
  const empty = new Option(`${capital(written(entry.default))} (standard)`, "");
  const others = entry.enum.filter((value) => value !== entry.default);
  return make("select", {}, empty, ...others.map((value) => new Option(capital(value), value)));
}
