// The page: brings its parts together. What is shown is in the address, so that reloading, going
// back and sharing a link all work: #/ID is one picture, #/compare/ID/ID two.

import * as api from "./common/api.js";
import { announce, byId } from "./common/elements.js";
import { complain, startForm, startFrom, useRequest } from "./request/form.js";
import { Gallery } from "./result/gallery.js";
import { knowModels } from "./common/models.js";
import { startReading } from "./request/reading.js";
import { useSession } from "./result/recipe.js";
import { startSession } from "./common/session.js";
import { Stage } from "./result/stage.js";

const SERVICE_MILLISECONDS = 15000;

const gallery = new Gallery(tellProblem, goOnFrom);
const stage = new Stage({
  changed: () => gallery.refresh(), reuse, start: goOnFrom, problem: tellProblem,
});

function tellProblem(problem) {
  complain(problem);
  announce(problem.message);
}

function reuse(request) {
  useRequest(request);
  byId("prompt").focus();
  announce("The settings are in the form.");
}

function goOnFrom(generation) {
  startFrom(generation);
  byId("prompt").focus();
  announce("The form starts from this picture.");
}

/** Ask for as many pictures as the form says, and show the first. */
async function ask({ n = 1, ...request }) {
  const generations = n === 1 ? [await api.create(request)] : await api.createBatch({ ...request, n });
  location.hash = `#/${generations[0].id}`;
  if (n > 1) announce(`${n} pictures are asked for.`);
  gallery.refresh();
}

const isShowing = () => location.hash.length > "#/".length;

/** Show what the address says. */
async function route() {
  const { hash } = location;
  const [first, left, right] = hash.replace(/^#\/?/, "").split("/");
  gallery.markShown(first);
  try {
    if (first === "compare" && right) await stage.compare(left, right);
    else if (first) await stage.show(first);
    else stage.clear();
  } catch (problem) {
    if (location.hash !== hash) return; // something else is shown by now
    stage.clear();
    tellProblem(problem);
  }
}

/** On a phone the picture is below the form. */
function bringIntoSight() {
  if (!isShowing()) return;
  const { top } = byId("stage").getBoundingClientRect();
  if (top > innerHeight / 2 || top < 0) byId("stage").scrollIntoView({ block: "start" });
}

async function showService() {
  const models = await api.listModels().catch(() => null);
  const service = byId("service");
  const workers = models ? Math.max(...models.map((model) => model.warm_workers)) : 0;
  const waiting = models?.reduce((sum, model) => sum + model.queued, 0) ?? 0;
  service.dataset.state = workers ? "ready" : "away";
  const ready = workers === 1 ? "1 worker ready" : `${workers} workers ready`;
  if (!models) service.textContent = "Out of reach";
  else service.textContent = workers ? `${ready}, ${waiting} waiting` : "No worker is ready";
  setTimeout(showService, SERVICE_MILLISECONDS);
}

/** Whether nobody typed, pressed, scrolled or went elsewhere on the page while `work` went on. */
async function isUndisturbed(work) {
  const acts = new AbortController();
  let disturbed = false;
  for (const act of ["keydown", "pointerdown", "wheel", "focusin"])
    addEventListener(act, () => { disturbed = true; }, { passive: true, signal: acts.signal });
  await work;
  acts.abort();
  return !disturbed;
}

addEventListener("hashchange", async () => {
  const { hash } = location;
  if (!await isUndisturbed(route()) || location.hash !== hash) return;
  bringIntoSight();
  if (isShowing()) byId("stage-title").focus({ preventScroll: true });
});

useSession(await startSession());
showService();
try {
  knowModels(await api.patiently(api.listModels));
  startForm(ask);
  startReading(useRequest, complain);
} catch (problem) {
  tellProblem(problem);
}
gallery.refresh();
await route();
bringIntoSight();
