// Recent generations, newest first: look, search, stop, delete, go on from one, pick two to compare.

import * as api from "../common/api.js";
import { byId, iconButton, make } from "../common/elements.js";
import { methodTitle, pixels } from "../common/wording.js";

const PAGE = 24;
const SEARCH_PAGE = 100;
const SEARCH_MILLISECONDS = 250;
const REFRESH_MILLISECONDS = 4000;
const UNFINISHED = new Set(["queued", "running"]);
const STATES = { queued: "Waiting", failed: "Failed", cancelled: "Stopped", succeeded: "" };

export class Gallery {
  /**
   * @param {(problem: Error) => void} onProblem hears of what the service refuses
   * @param {(generation: object) => void} onStart a new picture is to start from it
   */
  constructor(onProblem, onStart) {
    this.onProblem = onProblem;
    this.onStart = onStart;
    this.words = wordsOf(byId("search").value); // that are searched for
    this.cards = new Map();
    this.picked = null;
    this.cursor = undefined; // of the next older page; null after the oldest
    this.reading = Promise.resolve(); // ends when no older page is on its way
    this.timer = null;
    this.turn = 0; // counts readings and deletions, so that a late answer brings nothing back
    byId("older").addEventListener("click", () => this.#attempt(() => this.#showOlder()));
    byId("search").addEventListener("input", () => {
      clearTimeout(this.searchTimer);
      this.searchTimer = setTimeout(() => this.#attempt(() => this.#search()), SEARCH_MILLISECONDS);
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Read the newest page again, and keep doing so while something in it is unfinished. */
  async refresh() {
    clearTimeout(this.timer);
    this.turn += 1;
    const { turn } = this;
    const page = await api.list(PAGE).catch(() => null); // the next round may have more luck
    if (turn !== this.turn) return;
    const unfinished = page?.generations.some(({ status }) => UNFINISHED.has(status)) ?? true;
    if (page) this.#showNewest(page);
    if (unfinished && !document.hidden)
      this.timer = setTimeout(() => this.refresh(), REFRESH_MILLISECONDS);
  }

  /** Mark the card of what is shown above. */
  markShown(id) {
    for (const [each, card] of this.cards) card.element.dataset.shown = each === id;
    this.shown = id;
  }

  #showNewest({ generations, next_cursor: cursor }) {
    const isFirst = this.cursor === undefined;
    if (isFirst) this.cursor = cursor;
    const oldest = generations.at(-1)?.id ?? "";
    const ids = new Set(generations.map(({ id }) => id));
    for (const id of this.cards.keys()) if (id >= oldest && !ids.has(id)) this.#remove(id);
    [...generations].reverse().forEach((generation) => {
      const known = this.cards.has(generation.id);
      this.#update(generation);
      if (!known) byId("cards").prepend(this.cards.get(generation.id).element);
    });
    this.#showEdges();
    if (isFirst && this.words.length) this.#attempt(() => this.#search());
  }

  async #showOlder() {
    const generations = await this.#readOlder(PAGE);
    const first = generations.find(({ id }) => !this.cards.get(id).element.hidden);
    if (first) this.cards.get(first.id).link.focus();
  }

  /** Append the next `count` that are older; one page after another, each from where the last ended. */
  #readOlder(count) {
    const read = async () => {
      if (!this.cursor) return [];
      const { generations, next_cursor: cursor } = await api.list(count, this.cursor);
      for (const generation of generations) {
        this.#update(generation);
        byId("cards").append(this.cards.get(generation.id).element);
      }
      this.cursor = cursor;
      this.#showEdges();
      return generations;
    };
    const page = this.reading.then(read);
    this.reading = page.catch(() => {}); // whoever asked hears of it
    return page;
  }

  /** Show what has every word that is searched for; read older ones until a page is full of them. */
  async #search() {
    const words = wordsOf(byId("search").value);
    this.words = words;
    for (const card of this.cards.values()) this.#sift(card);
    this.#showEdges();
    while (words.length && this.words === words && this.cursor && this.#shown().length < PAGE)
      await this.#readOlder(SEARCH_PAGE);
  }

  #shown() {
    return [...this.cards.values()].filter(({ element }) => !element.hidden);
  }

  #sift(card) {
    const { request, result } = card.generation;
    const said = [request.prompt, request.negative_prompt, request.model, methodTitle(request.method),
      pixels(result ?? request), `seed ${request.seed}`].join(" ").toLowerCase();
    card.element.hidden = !this.words.every((word) => said.includes(word));
  }

  #showEdges() {
    const shown = this.#shown().length;
    byId("older").hidden = !this.cursor;
    byId("no-cards").hidden = shown > 0;
    byId("no-cards").textContent = !this.words.length ? "Nothing yet."
      : this.cursor && shown < PAGE ? "Searching…" : "Nothing has all of these words.";
  }

  #update(generation) {
    if (!this.cards.has(generation.id)) this.#create(generation);
    const card = this.cards.get(generation.id);
    const { status, progress, request } = generation;
    const text = progress.total && status === "running"
      ? `${Math.round((100 * progress.step) / progress.total)} %` : STATES[status] ?? "Begun";
    card.generation = generation;
    card.facts.textContent = `${pixels(generation.result ?? request)}\n${methodTitle(request.method)}`;
    card.element.dataset.shown = generation.id === this.shown;
    this.#sift(card);
    if (card.status === status && card.text === text) return;
    Object.assign(card, { status, text });
    card.thumb.replaceChildren(generation.links.thumbnail
      ? make("img", { src: generation.links.thumbnail, alt: "", loading: "lazy" }) : text);
    card.link.setAttribute("aria-label", text ? `${request.prompt}, ${text}` : request.prompt);
    this.#offerActions(card);
  }

  #create({ id, request }) {
    const thumb = make("div", { className: "thumb" });
    const title = make("p", { className: "card-title", textContent: request.prompt });
    const facts = make("p", { className: "card-facts" });
    const link = make("a", { href: `#/${id}` }, thumb,
      make("div", { className: "card-text" }, title, facts));
    const actions = make("div", { className: "card-actions" });
    const element = make("li", { className: "card" }, link, actions);
    this.cards.set(id, { element, link, thumb, facts, actions });
  }

  /** Buttons follow the status; one that stays what it was keeps its focus. */
  #offerActions(card) {
    const { prompt } = card.generation.request;
    const kind = UNFINISHED.has(card.status) ? "stop" : card.status;
    if (card.kind === kind) return;
    card.kind = kind;
    const stop = () => this.#attempt(() => api.cancel(card.generation));
    const buttons = {
      stop: () => [iconButton("stop", `Stop: ${prompt}`, stop)],
      succeeded: () => [this.#startButton(card), this.#pickButton(card), this.#deleteButton(card)],
    }[kind] ?? (() => [this.#deleteButton(card)]);
    card.actions.replaceChildren(...buttons());
  }

  #deleteButton(card) {
    const { prompt } = card.generation.request;
    return iconButton("trash", `Delete: ${prompt}`, async () => {
      if (await confirmed(prompt)) this.#attempt(() => this.#delete(card));
    });
  }

  #startButton(card) {
    const { prompt } = card.generation.request;
    return iconButton("start", `Start from: ${prompt}`, () => this.onStart(card.generation));
  }

  #pickButton(card) {
    const { prompt } = card.generation.request;
    const button = iconButton("compare", `Compare: ${prompt}`, () => this.#pick(card));
    button.setAttribute("aria-pressed", "false");
    card.pick = button;
    return button;
  }

  #pick(card) {
    const first = this.picked;
    const another = first && first !== card;
    this.picked = first ? null : card;
    for (const each of this.cards.values())
      each.pick?.setAttribute("aria-pressed", String(each === this.picked));
    byId("picked").hidden = !this.picked;
    byId("picked").textContent = "Choose the picture to compare it with.";
    if (another) location.hash = `#/compare/${first.generation.id}/${card.generation.id}`;
  }

  async #delete(card) {
    await api.purge(card.generation);
    this.turn += 1;
    const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
    this.#remove(card.generation.id);
    (next?.querySelector("a") ?? byId("gallery-title")).focus();
    this.#showEdges();
    if (location.hash.includes(card.generation.id)) location.hash = "#/";
  }

  #remove(id) {
    const card = this.cards.get(id);
    if (!card) return; // it was gone already
    if (this.picked === card) this.#pick(card);
    card.element.remove();
    this.cards.delete(id);
  }

  async #attempt(action) {
    try {
      await action();
    } catch (problem) {
      this.onProblem(problem);
    }
    this.refresh();
  }
}

const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

/** Ask before what cannot be undone. */
function confirmed(prompt) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = `“${prompt}” and its files will be gone for good.`;
  dialog.returnValue = "keep";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"),
      { once: true });
  });
}
