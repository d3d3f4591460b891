// Watched expressions: the argument of the view Watches, so that a link has them.

import { argumentOf, show } from "./layout";

const SEPARATOR = ";";

export function watches(): string[] {
  return (argumentOf("watches") ?? "").split(SEPARATOR).filter(Boolean);
}

export function setWatches(all: string[]): void {
  show("watches", all.join(SEPARATOR) || null);
}

export function addWatch(expression: string): void {
  const clean = expression.trim().replaceAll(SEPARATOR, ",");
  const all = watches();
  if (clean && !all.includes(clean)) setWatches([...all, clean]);
  else show("watches");
}
