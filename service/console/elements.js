// Elements: make them, and bring lists of them up to date without replacing what has not changed.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. name: tag.class. attributes: a function is an event listener for its key. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElement(tag), classes, attributes, children);
}

/** Make an SVG element, in the same way. */
export function svg(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElementNS(SVG, tag), classes, attributes, children);
}

function fill(node, classes, attributes, children) {
  node.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Give `parent` one child for each item, in order: reuse by key, make what is missing, remove the rest. */
export function updateChildren(parent, items, key, make, update = () => {}) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, index) => {
    const name = String(key(item));
    const node = old.get(name) ?? make(item);
    old.delete(name);
    node.dataset.key = name;
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
    update(node, item);
  });
  for (const node of old.values()) node.remove();
}

/** Replace the children of `parent`, unless `state` is what they were made from already. */
export function renderOnce(parent, state, make) {
  const key = JSON.stringify(state);
  if (parent.dataset.state === key) return;
  parent.dataset.state = key;
  parent.replaceChildren(...[make()].flat().filter(Boolean));
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A section with a heading, as a card. `aside` stands at the other end of the heading's line. */
export function card(id, title, aside, ...children) {
  return h(
    "section.card", { "aria-labelledby": id },
    h("div.card-head", {}, h("h2", { id }, title), aside && h("p.summary", {}, ...[aside].flat())),
    ...children,
  );
}
