// Creates elements. Every child that is not an element becomes text, never HTML.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null).map(text));
  return element;
}

export function setText(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

const text = (child) => (child instanceof Node ? child : String(child));
