// A link to a focus: a real one, so that it can be copied and opened in another tab. A plain click
// stays in this page.

import type { ComponentChildren } from "preact";
import type { Target } from "../protocol/types";
import { go, resolve, whole } from "../state/focus";
import { hashOf } from "../state/url";

interface Properties {
  to: Target | null | undefined;
  class?: string;
  title?: string | undefined;
  children: ComponentChildren;
  tabIndex?: number;
  /** Instead of only going there. */
  before?: () => void;
}

/** Whether the browser has its own meaning for this click. */
export const isPlain = (event: MouseEvent) =>
  event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;

export function Link({ to, before, children, ...rest }: Properties) {
  if (!to) return <span {...rest}>{children}</span>;
  // Read without subscribing: only the click and the status bar want it.
  const next = resolve(to, whole.peek());
  const click = (event: MouseEvent) => {
    if (!isPlain(event)) return;
    event.preventDefault();
    before?.();
    go(to);
  };
  return (
    <a href={hashOf(next)} onClick={click} {...rest}>
      {children}
    </a>
  );
}
