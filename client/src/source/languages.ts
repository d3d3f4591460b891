// Languages that are coloured; loaded with the first source text, not with the page.

import { c, cpp } from "@codemirror/legacy-modes/mode/clike";
import { rust } from "@codemirror/legacy-modes/mode/rust";
import { gas } from "@codemirror/legacy-modes/mode/gas";
import type { Mode } from "./stream";

export function languageOf(file: string): Mode | null {
  const mode = (it: unknown) => it as Mode;
  const extension = file.slice(file.lastIndexOf(".") + 1).toLowerCase();
  if (extension === "rs") return mode(rust);
  if (extension === "s" || extension === "asm") return mode(gas);
  if (extension === "c") return mode(c);
  // Headers without an extension, of C++'s library.
  if (["cc", "cpp", "cxx", "c++", "hpp", "hh", "hxx", "h", "tcc", "ipp", "inl"].includes(extension)) return mode(cpp);
  return file.includes("/c++/") || file.includes("/bits/") ? mode(cpp) : null;
}
