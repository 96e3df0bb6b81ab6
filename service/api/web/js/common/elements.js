// Make and find elements. Text is always set as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties or attributes, and children (elements or text). */
export function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the drawings in icons.svg; decoration only, so hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/web/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows a drawing and has a name. */
export function iconButton(name, label, onClick) {
  const button = make("button", { type: "button", className: "icon-button", title: label });
  button.setAttribute("aria-label", label);
  button.append(icon(name));
  button.addEventListener("click", onClick);
  return button;
}

/** Tell people who hear the page rather than see it. */
export function announce(text) {
  byId("announcer").textContent = text;
}
