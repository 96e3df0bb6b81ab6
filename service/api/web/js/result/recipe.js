// What a picture was made from, and how to make it again from elsewhere.

import { announce, byId, icon, make } from "../common/elements.js";
import { CLIENTS } from "./snippets.js";
import { bytes, duration, methodTitle, pixels } from "../common/wording.js";

const COPIED_MILLISECONDS = 1600;

const service = {
  asksForKey: false,
  origin: location.origin,
  grpcAddress: `${location.hostname}:${document.querySelector("[name=grpc-port]").content}`,
};

/** Let the code name a key, where the service asks for one. */
export function useSession(session) {
  service.asksForKey = session.asks_for_key;
}

/** Show the recipe of `generation`, with code for each client. */
export function showRecipe(generation) {
  const facts = make("div", { className: "recipe-column" },
    make("h3", { textContent: "Recipe" }), list(rows(generation)));
  const code = make("div", { className: "recipe-column" },
    make("h3", { textContent: "Make it again", id: "again" }), ...tabs(generation.request));
  byId("recipe").replaceChildren(facts, code);
  byId("recipe").hidden = false;
}

export function hideRecipe() {
  byId("recipe").hidden = true;
}

function rows({ request, result, started_at: start, finished_at: end }) {
  const rows = [["Prompt", request.prompt]];
  if (request.negative_prompt) rows.push(["Without", request.negative_prompt]);
  if (request.loras.length)
    rows.push(["LoRAs", request.loras.map(({ name, weight }) => `${name} ${weight}`).join(", ")]);
  if (request.controls.length)
    rows.push(["Guided by", request.controls.map(({ name, scale }) => `${name} ${scale}`).join(", ")]);
  if (request.image_prompt) rows.push(["Picture as prompt", `scale ${request.image_prompt.scale}`]);
  if (request.scale) rows.push(["From", `a picture, ${request.scale} times larger`]);
  else if (request.image) {
    const what = request.mask ? "part of a picture" : "a picture";
    rows.push(["From", `${what}, strength ${request.strength}`]);
  }
  if (request.upscale) rows.push(["Upscaled", `${request.upscale.scale} times by ${request.upscale.model}`]);
  rows.push(
    ["Model", request.model],
    ["Size", pixels(result ?? request)],
    ["Method", methodTitle(request.method)],
    ["Steps", request.num_inference_steps],
    ["Guidance", request.guidance_scale],
    ["Seed", request.seed],
    ["Scheduler", request.scheduler],
  );
  if (start && end) rows.push(["Took", duration((new Date(end) - new Date(start)) / 1000)]);
  if (result) rows.push(["File", `${result.image.media_type}, ${bytes(result.image.bytes)}`]);
  return rows;
}

const list = (rows) =>
  make("dl", {}, ...rows.flatMap(([name, value]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: value })]));

function tabs(request) {
  const text = make("code");
  const pre = make("pre", { tabIndex: 0 }, text);
  pre.setAttribute("aria-label", "Code");
  pre.setAttribute("role", "region");
  const panel = make("div", { className: "code", id: "code" }, pre);
  panel.setAttribute("role", "tabpanel");
  const row = make("div", { className: "tabs" });
  row.setAttribute("role", "tablist");
  row.setAttribute("aria-labelledby", "again");
  row.append(...CLIENTS.map(({ name }, index) => tab(name, index)));
  const choose = (index, focus) => {
    [...row.children].forEach((each, other) => {
      each.setAttribute("aria-selected", String(other === index));
      each.tabIndex = other === index ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", row.children[index].id);
    text.textContent = CLIENTS[index].write(request, service);
    if (focus) row.children[index].focus();
  };
  row.addEventListener("click", ({ target }) => {
    if (target.role === "tab") choose([...row.children].indexOf(target));
  });
  row.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const now = [...row.children].indexOf(event.target);
    choose((now + step + CLIENTS.length) % CLIENTS.length, true);
  });
  choose(0);
  return [make("div", { className: "code-head" }, row, copyButton(text)), panel];
}

function tab(name, index) {
  const button = make("button", { type: "button", id: `client-${index}`, textContent: name });
  button.role = "tab";
  button.setAttribute("aria-controls", "code");
  return button;
}

function copyButton(source) {
  const word = make("span", { textContent: "Copy" });
  const button = make("button", { type: "button", className: "quiet copy" }, icon("copy"), word);
  button.addEventListener("click", async () => {
    await copy(source);
    word.textContent = "Copied";
    announce("Copied");
    setTimeout(() => { word.textContent = "Copy"; }, COPIED_MILLISECONDS);
  });
  return button;
}

/** The clipboard is closed to pages from plain-HTTP addresses; there, a selection is copied. */
async function copy(source) {
  if (navigator.clipboard) return navigator.clipboard.writeText(source.textContent);
  getSelection().selectAllChildren(source);
  return document.execCommand("copy");
}
