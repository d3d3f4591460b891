// How numbers, places and names are written.

import type { Place, Value } from "../protocol/types";

export function grouped(number: number | string): string {
  return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

export function fileName(path: string | undefined): string {
  return path?.slice(path.lastIndexOf("/") + 1) ?? "";
}

/** `main:72`, or what is nearest to it. */
export function placeText(place: Place | null | undefined): string {
  if (!place) return "";
  const name = shortName(place.function ?? "") || place.address || "?";
  if (place.line) return `${name}:${place.line}`;
  const module = fileName(place.module);
  return module ? `${name} in ${module}` : name;
}

export function placeTitle(place: Place | null | undefined): string {
  if (!place) return "";
  const at = place.file ? `${place.file}${place.line ? `:${place.line}` : ""}` : (place.module ?? "");
  return [place.full ?? place.function, at, place.address].filter(Boolean).join("\n");
}

/** Template arguments are folded: names are trees, and their leaves matter most. */
export function shortName(name: string): string {
  let depth = 0;
  let short = "";
  for (let at = 0; at < name.length; at++) {
    const c = name[at];
    const operator = /operator[<>=-]*$/.test(name.slice(0, at)) && /[<>=-]/.test(c ?? "");
    if (c === "<" && !operator) {
      if (depth === 0) short += "<…>";
      depth++;
    } else if (c === ">" && depth > 0 && !operator) depth--;
    else if (depth === 0) short += c;
  }
  return short;
}

export function milliseconds(time: number): string {
  if (time < 9.95) return `${time.toFixed(1)} ms`;
  return time < 1000 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(1)} s`;
}

export function valueText(value: Value | string | null | undefined): string {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : (value.text ?? "");
}

export function plural(count: number | string, one: string, many = `${one}s`): string {
  return `${grouped(count)} ${String(count) === "1" ? one : many}`;
}
