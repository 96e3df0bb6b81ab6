// Ask for a picture, follow its events, show it. Needs no build step and no other file.

const element = (id) => document.getElementById(id);
const form = element("request");
const final = new Set(["succeeded", "failed", "cancelled"]);
let models = [];
let current = null;

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const document_ = await response.json();
  if (!response.ok) throw document_;
  return document_;
}

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen)));
}

function offer(model) {
  fill(element("method"), model.methods, model.default_method);
  for (const side of [element("width"), element("height")]) {
    side.min = model.min_size;
    side.max = model.max_size;
    side.value = model.default_size;
  }
}

function tell(status, step, total) {
  element("status").textContent = status;
  const bar = element("progress");
  bar.hidden = total === undefined;
  if (total) {
    bar.max = total;
    bar.value = step;
  } else {
    bar.removeAttribute("value");
  }
}

function complain(problem) {
  tell(problem.detail ?? String(problem));
  const lines = (problem.errors ?? []).map((error) => {
    const item = document.createElement("li");
    item.textContent = `${error.field}: ${error.value} is not allowed, ${error.description}`;
    return item;
  });
  element("problems").replaceChildren(...lines);
}

function show(source, description, link) {
  element("result").hidden = false;
  element("picture").src = source;
  element("picture").alt = description;
  if (link) element("link").href = link;
  else element("link").removeAttribute("href");
}

function caption(generation, result) {
  const { seed, width, height, method } = generation.request;
  const text = `${width} × ${height}, ${method}, seed ${seed}. `;
  const download = document.createElement("a");
  download.href = result.image.href;
  download.textContent = `Full size, ${(result.image.bytes / 1e6).toFixed(1)} MB`;
  const record = document.createElement("a");
  record.href = generation.links.self;
  record.textContent = "Record";
  element("caption").replaceChildren(text, download, " · ", record);
}

function follow(generation) {
  const { prompt } = generation.request;
  const events = new EventSource(generation.links.events);
  const on = (type, handle) =>
    events.addEventListener(type, (event) => {
      handle(JSON.parse(event.data));
      if (final.has(type)) {
        events.close();
        busy(null);
      }
    });
  events.onerror = () => {
    if (events.readyState !== EventSource.CLOSED) return;
    complain("The connection is lost; the picture may still be made.");
    busy(null);
  };
  on("queued", () => tell("Waiting for a worker", 0, 0));
  on("started", () => tell("Preparing", 0, 0));
  on("step", ({ step, total }) => tell(`Denoising, step ${step} of ${total}`, step, total));
  on("preview", ({ href }) => show(href, `Preview of: ${prompt}`));
  on("tile", ({ done, total }) => tell(`Decoding, tile ${done} of ${total}`, done, total));
  on("succeeded", ({ result }) => {
    tell("Done");
    show(result.image.href, prompt, result.image.href);
    caption(generation, result);
  });
  on("failed", ({ error }) => complain(error));
  on("cancelled", () => tell("Stopped"));
}

function busy(generation) {
  current = generation;
  element("submit").disabled = generation !== null;
  element("cancel").hidden = generation === null;
}

function asked() {
  const fields = Object.fromEntries(new FormData(form));
  const numbers = ["width", "height", "seed"].filter((name) => fields[name] !== "");
  const given = Object.fromEntries(numbers.map((name) => [name, Number(fields[name])]));
  const { prompt, model, method } = fields;
  return { prompt, model, method, ...given };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  element("problems").replaceChildren();
  element("result").hidden = true;
  element("caption").replaceChildren();
  try {
    const generation = await call("POST", "/v1/generations", asked());
    busy(generation);
    follow(generation);
  } catch (problem) {
    complain(problem);
  }
});

element("cancel").addEventListener("click", () => {
  if (current) call("DELETE", current.links.self).catch(complain);
});

element("model").addEventListener("change", () => {
  offer(models.find((model) => model.name === element("model").value));
});

try {
  ({ models } = await call("GET", "/v1/models"));
  fill(element("model"), models.map((model) => model.name), models[0].name);
  offer(models[0]);
} catch (problem) {
  complain(problem);
}
