// Elements. Text comes in as text nodes only: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * The element with this id, which page.html has.
 * @param {string} id
 * @returns {HTMLElement}
 */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

/**
 * An element of HTML, with a class, attributes and children.
 * @param {string} name
 * @param {string} className
 * @param {Record<string, string> | null} attributes
 * @param {...(Node | string | null)} children
 * @returns {HTMLElement}
 */
function element(name, className, attributes, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  return filled(made, attributes, children);
}

/**
 * The same for SVG.
 * @param {string} name
 * @param {string} className
 * @param {Record<string, string | number> | null} attributes
 * @param {...(Node | string | null)} children
 * @returns {SVGElement}
 */
function drawn(name, className, attributes, ...children) {
  const made = /** @type {SVGElement} */ (document.createElementNS(SVG, name));
  if (className) made.setAttribute("class", className);
  return filled(made, attributes, children);
}

/**
 * @template {Element} E
 * @param {E} made
 * @param {Record<string, string | number> | null} attributes
 * @param {(Node | string | null)[]} children
 * @returns {E}
 */
function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, String(value));
  made.append(...children.filter((child) => child !== null));
  return made;
}

/**
 * A picture of this size, in pixels, with a sentence for those who do not see it.
 * @param {number} width
 * @param {number} height
 * @param {string} label
 * @returns {SVGElement}
 */
function picture(width, height, label) {
  return drawn("svg", "", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label,
  });
}

/**
 * Text off the wire, which cannot turn what stands around it.
 * @param {string | null | undefined} text
 * @param {string} [className]
 * @returns {HTMLElement}
 */
function wire(text, className) {
  return element("bdi", className ?? "", null, plain(text));
}

/**
 * A button.
 * @param {string} className
 * @param {string} label
 * @param {() => void} act
 * @returns {HTMLElement}
 */
function button(className, label, act) {
  const made = element("button", className, { type: "button" }, label);
  made.addEventListener("click", act);
  return made;
}

/**
 * Round values for an axis from 0, at most so many steps.
 * @param {number} most
 * @param {number} steps
 * @returns {number[]}
 */
function ticks(most, steps) {
  const rough = Math.max(most, 1e-9) / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999) ?? power;
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, number) => number * step);
}

/**
 * Steps in seconds for an axis of time.
 * @param {number} span
 * @param {number} steps
 * @returns {number}
 */
function timeStep(span, steps) {
  const nice = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];
  return nice.find((step) => span / step <= steps) ?? 86400 * Math.ceil(span / steps / 86400);
}
