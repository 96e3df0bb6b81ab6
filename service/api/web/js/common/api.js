// The service's HTTP interface: calls that fail throw its problem documents.

const RETRY_MILLISECONDS = 2000;

/** Nobody answered, or only something in the service's place. */
const PASSING = new Set([0, 502, 503, 504]);

/** What went wrong, as the service's problem document tells it. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail ?? document.title ?? "The service gave no reason.");
    this.status = document.status ?? 0;
    this.errors = document.errors ?? [];
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem({ detail: "The service cannot be reached. Try again in a moment." });
  }
  if (response.ok) return response;
  const { status } = response;
  throw new Problem(await response.json().catch(() => ({ status })));
}

async function call(method, path, body, more = {}) {
  const headers = body ? { "Content-Type": "application/json", ...more } : more;
  const response = await ask(path, { method, headers, body: body && JSON.stringify(body) });
  return response.status === 204 ? null : response.json();
}

/** Try again for as long as the service cannot be reached; for what cannot do harm twice. */
export async function patiently(attempt) {
  for (;;) {
    try {
      return await attempt();
    } catch (problem) {
      if (!PASSING.has(problem.status)) throw problem;
    }
    await new Promise((resolve) => { setTimeout(resolve, RETRY_MILLISECONDS); });
  }
}

export const readText = async (path) => (await ask(path)).text();
export const listModels = async () => (await call("GET", "/v1/models")).models;
export const read = (id) => call("GET", `/v1/generations/${encodeURIComponent(id)}`);
export const cancel = (generation) => call("DELETE", generation.links.self);
export const purge = (generation) => call("DELETE", `${generation.links.self}?purge=true`);
export const upload = async (file) => (await ask("/v1/uploads", { method: "POST", body: file })).json();
export const readRecipe = async (file) => (await ask("/v1/recipes", {
  method: "POST", body: file, headers: { "Content-Type": "image/png" },
})).json();
export const create = (request) => call("POST", "/v1/generations", request);
export const createBatch = async (request) =>
  (await call("POST", "/v1/generations/batch", request)).generations;

export function list(limit, cursor) {
  const query = new URLSearchParams({ limit });
  if (cursor) query.set("cursor", cursor);
  return call("GET", `/v1/generations?${query}`);
}

/** Whether the service asks for keys, and the tenant whose key the browser holds, or null. */
export const readSession = () => call("GET", "/session");

export function signIn(key) {
  if (!/^[!-~]+$/.test(key)) throw new Problem({ status: 401 });  // not even a header takes it
  return call("POST", "/session", null, { Authorization: `Bearer ${key}` });
}

export const signOut = () => call("DELETE", "/session");
