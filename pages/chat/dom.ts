/** Making elements. Text is always text: nothing here parses HTML. */

type Child = Node | string | null | undefined | false;
type Properties<E> = Partial<Omit<E, "dataset" | "style">> & { dataset?: Record<string, string>; aria?: Record<string, string> };

/** An element with its properties and children. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Properties<HTMLElementTagNameMap[Name]> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  const { dataset, aria, ...rest } = properties;
  Object.assign(element, rest);
  Object.assign(element.dataset, dataset);
  for (const [attribute, value] of Object.entries(aria ?? {})) {
    element.setAttribute(attribute === "role" ? "role" : `aria-${attribute}`, value);
  }
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

/** The element of this id; a page without it is a fault of ours. */
export function byId<E extends HTMLElement>(id: string, type: new () => E): E {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`the page has no ${type.name} #${id}`);
  return element;
}
