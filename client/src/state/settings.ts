// What one browser remembers: theme, inline values, whether the welcome was read.

import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

function stored<T extends string>(key: string, fallback: T, allowed: readonly T[]) {
  let value = fallback;
  try {
    const found = localStorage.getItem(`pernosco.${key}`) as T | null;
    if (found && allowed.includes(found)) value = found;
  } catch {
    // No storage in this browser: the setting holds until the page is closed.
  }
  const it = signal<T>(value);
  effect(() => {
    try {
      localStorage.setItem(`pernosco.${key}`, it.value);
    } catch {
      // As above.
    }
  });
  return it;
}

export const theme = stored<Theme>("theme", "system", ["system", "light", "dark"]);
export const inlineValues = stored<"on" | "off">("inline-values", "on", ["on", "off"]);
export const letterKeys = stored<"on" | "off">("letter-keys", "on", ["on", "off"]);
export const welcome = stored<"show" | "gone">("welcome", "show", ["show", "gone"]);

export function applyTheme(): void {
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = signal(media.matches);
  media.addEventListener("change", () => {
    dark.value = media.matches;
  });
  effect(() => {
    const system = dark.value ? "dark" : "light";
    document.documentElement.dataset.theme = theme.value === "system" ? system : theme.value;
  });
}
