// The address bar: focus moves are pushed, so that Back undoes them; the layout replaces.

import { batch, effect, signal } from "@preact/signals";
import type { Focus } from "../protocol/types";
import { acted } from "../protocol/use_answer";
import { onMove, whole, type Whole } from "./focus";
import { DEFAULT_LARGE, DEFAULT_SMALL, layout, read, write, type Node } from "./layout";

/** What of the URL could not be understood. */
export const complaint = signal("");

const MOMENT_MAX = 2 ** 53;
const WIDE_PX = 1700;

const standard = () => (window.innerWidth >= WIDE_PX ? DEFAULT_LARGE : DEFAULT_SMALL);

const component = (text: string) => encodeURIComponent(text).replace(/%2C/gi, ",").replace(/%3A/gi, ":");

export function hashOf(it: Whole | null, node: Node = layout.value): string {
  const parts: string[] = [];
  if (it) {
    const { focus, data } = it;
    parts.push(`m=${focus.moment}`);
    if (focus.task !== undefined) parts.push(`t=${focus.task}`);
    if (focus.frame) parts.push(`f=${focus.frame}`);
    if (data) {
      parts.push(`d=${component(data.text)}`);
      const { at } = data;
      if (at.moment !== focus.moment || at.frame !== focus.frame || at.task !== focus.task) {
        parts.push(`da=${at.moment}/${at.task ?? ""}/${at.frame ?? ""}`);
      }
    }
  }
  const text = write(node);
  if (text !== standard()) parts.push(`l=${text}`);
  return `#${parts.join("&")}`;
}

const isMoment = (text: string) => /^\d+$/.test(text) && Number(text) < MOMENT_MAX;
const isFrame = (text: string) => /^\d+(\.\d+)?$/.test(text);

function readFocus(moment: string, task: string, frame: string, bad: string[]): Focus | null {
  if (!moment) return null;
  if (!isMoment(moment)) {
    bad.push(`moment ${moment}`);
    return null;
  }
  const focus: Focus = { moment };
  if (task && /^\d{1,9}$/.test(task)) focus.task = Number(task);
  else if (task) bad.push(`task ${task}`);
  if (frame && isFrame(frame)) focus.frame = frame;
  else if (frame) bad.push(`frame ${frame}`);
  return focus;
}

/** What a fragment says, and what of it is not understood. */
export function parse(
  hash: string,
  known: (view: string) => boolean,
): { whole: Whole | null; layout: Node | null; bad: string[] } {
  const bad: string[] = [];
  const parts = new Map<string, string>();
  for (const part of hash.replace(/^#/, "").split("&")) {
    if (!part) continue;
    const at = part.indexOf("=");
    parts.set(at < 0 ? part : part.slice(0, at), at < 0 ? "" : part.slice(at + 1));
  }
  const get = (key: string) => parts.get(key) ?? "";
  const focus = readFocus(get("m"), get("t"), get("f"), bad);
  let data: Whole["data"] = null;
  if (focus && get("d")) {
    const [moment = "", task = "", frame = ""] = get("da").split("/");
    const at = get("da") ? readFocus(moment, task, frame, bad) : focus;
    try {
      if (at) data = { text: decodeURIComponent(get("d")), at };
    } catch {
      bad.push("data");
    }
  }
  let node: Node | null = null;
  if (get("l")) {
    node = read(get("l"), known);
    if (!node) bad.push("layout");
  }
  return { whole: focus && { focus, data }, layout: node, bad };
}

/** The first focus, once `overview` has told the place to start; and from then on the URL's. */
export function follow(known: (view: string) => boolean): void {
  const take = () => {
    const url = parse(location.hash, known);
    acted();
    batch(() => {
      if (url.whole) whole.value = url.whole;
      layout.value = url.layout ?? read(standard(), known) ?? layout.peek();
      complaint.value = url.bad.length > 0 ? `Not understood and left out: ${url.bad.join(", ")}` : "";
    });
  };
  take();
  window.addEventListener("popstate", take);
  onMove((next, replace) => {
    const hash = hashOf(next);
    if (replace || hash === location.hash) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
    whole.value = next;
  });
  effect(() => {
    const hash = hashOf(whole.value, layout.value);
    if (whole.value && hash !== location.hash) history.replaceState(null, "", hash);
  });
}
