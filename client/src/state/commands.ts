// Everything that can be done, with its keys: the keyboard, the search box and the help overlay
// all read this one list.

import { signal } from "@preact/signals";
import { ask, askAll } from "../protocol/connection";
import { acted } from "../protocol/use_answer";
import type { Frame, Step } from "../protocol/types";
import { data, focus, go, here, say } from "./focus";
import { maximised, show, shown } from "./layout";
import { inlineValues, letterKeys, theme } from "./settings";

export interface Command {
  id: string;
  title: string;
  group: "Steps" | "Frames" | "Questions" | "Moments" | "Page";
  /** As `KeyboardEvent.key`, with `Alt-` and `Ctrl-` in front. */
  keys: string[];
  run(): void;
}

/** Which overlay is open. */
export const overlay = signal<"" | "help" | "views" | "search" | "go">("");
export const findAsked = signal(0);

const STEPS: Record<string, string> = {
  line: "next line",
  "line-back": "previous line",
  into: "into the next call",
  "into-back": "into the previous call",
  return: "the call's return",
  entry: "the call's entry",
  instruction: "next instruction",
  "instruction-back": "previous instruction",
  execution: "next execution of this line",
  "execution-back": "previous execution of this line",
};

let stepping: (() => void) | null = null;

export function step(kind: string): void {
  const from = focus.peek();
  if (!from) return;
  stepping?.();
  acted();
  let found: Step | null = null;
  stepping = ask(
    { question: "step", arguments: { kind }, focus: from },
    {
      rows: (rows) => {
        found = (rows[0] as Step | undefined) ?? found;
      },
      end: (end) => {
        stepping = null;
        if (end.error) return say(`${end.error.what}${end.error.try ? `. ${end.error.try}` : ""}`);
        const target = found?.focus;
        if (!target) return say(`There is no ${STEPS[kind] ?? kind}`);
        go(target);
        if (found?.left) say(found.left);
      },
    },
  );
}

/** To the caller or the callee of the focus's frame: the moment stays. */
async function walk(by: 1 | -1): Promise<void> {
  const from = focus.peek();
  if (!from) return;
  try {
    const frames = await askAll<Frame>({ question: "stack", focus: from, window: { before: 0, after: 200 } });
    const at = frames.findIndex((it) => it.frame === from.frame);
    const next = frames[(at < 0 ? 0 : at) + by];
    if (next) go({ ...next.focus, frame: next.frame }, next.place);
    else say(by > 0 ? "This is the outermost call" : "This is the innermost call");
  } catch (failure) {
    say((failure as { what?: string }).what ?? "The stack is not known");
  }
}

export function executionsHere(): void {
  const place = here.peek().place;
  if (place?.file && place.line) show("executions", `line:${place.file}:${place.line}`);
  else if (place?.function) show("executions", `function:${place.full ?? place.function}`);
  else if (place?.address) show("executions", `address:${place.address}`);
}

const stepCommand = (id: string, key: string): Command => {
  const title = STEPS[id] ?? id;
  const capital = title.charAt(0).toUpperCase() + title.slice(1);
  return { id, title: capital, group: "Steps", keys: [key], run: () => step(id) };
};

const about = (view: string) => () => {
  show(view);
  if (!data.peek()) say("Click a value first, in Locals, Stack or Source");
};

export const commands: Command[] = [
  stepCommand("line", "n"),
  stepCommand("line-back", "N"),
  stepCommand("into", "s"),
  stepCommand("into-back", "S"),
  stepCommand("return", "f"),
  stepCommand("entry", "F"),
  stepCommand("instruction", "."),
  stepCommand("instruction-back", ","),
  stepCommand("execution", "]"),
  stepCommand("execution-back", "["),
  { id: "caller", title: "Frame of the caller", group: "Frames", keys: ["Alt-ArrowUp"], run: () => void walk(1) },
  { id: "callee", title: "Frame of the callee", group: "Frames", keys: ["Alt-ArrowDown"], run: () => void walk(-1) },
  { id: "origin", title: "Where the value came from", group: "Questions", keys: ["o"], run: about("dataflow") },
  { id: "accesses", title: "Who wrote and read the value", group: "Questions", keys: ["a"], run: about("accesses") },
  { id: "executions", title: "Executions of this line", group: "Questions", keys: ["e"], run: executionsHere },
  { id: "callees", title: "Calls made by this call", group: "Questions", keys: ["c"], run: () => show("callees") },
  { id: "memory", title: "Memory of the value", group: "Questions", keys: ["m"], run: () => show("memory") },
  { id: "back", title: "Back to where I was", group: "Moments", keys: ["Backspace"], run: () => history.back() },
  { id: "go", title: "Go to a moment", group: "Moments", keys: ["g"], run: () => { overlay.value = "go"; } },
  { id: "keep", title: "Keep a note of this moment", group: "Moments", keys: ["b"], run: () => keepNote() },
  {
    id: "inline", title: "Values in the source, on or off", group: "Page", keys: ["v"],
    run: () => { inlineValues.value = inlineValues.peek() === "on" ? "off" : "on"; },
  },
  { id: "search", title: "Search, or give a command", group: "Page", keys: ["/", "Ctrl-s"], run: () => { overlay.value = "search"; } },
  { id: "find", title: "Find in the source text", group: "Page", keys: ["Ctrl-f"], run: () => { show("source"); findAsked.value += 1; } },
  { id: "views", title: "All views", group: "Page", keys: ["V"], run: () => { overlay.value = overlay.peek() === "views" ? "" : "views"; } },
  { id: "pane", title: "Next pane", group: "Page", keys: ["F6"], run: () => nextPane(1) },
  { id: "pane-back", title: "Previous pane", group: "Page", keys: ["Shift-F6"], run: () => nextPane(-1) },
  {
    id: "theme", title: "Light or dark", group: "Page", keys: ["D"],
    run: () => {
      theme.value = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    },
  },
  {
    id: "letters", title: "Single-letter keys, on or off", group: "Page", keys: ["Alt-k"],
    run: () => {
      letterKeys.value = letterKeys.peek() === "on" ? "off" : "on";
      say(`Single-letter keys are ${letterKeys.value}`);
    },
  },
  { id: "help", title: "All keys", group: "Page", keys: ["?"], run: () => { overlay.value = overlay.peek() === "help" ? "" : "help"; } },
];

/** Set by the view of notes. */
let keepNote: () => void = () => {};
export function onKeep(run: () => void): void {
  keepNote = run;
}

function nextPane(by: 1 | -1): void {
  const all = [...document.querySelectorAll<HTMLElement>(".pane")];
  const at = all.findIndex((pane) => pane.contains(document.activeElement));
  const pane = all[(at + by + all.length) % all.length];
  // What the view is about, else anything in it, else its tab.
  const wanted = ["[data-home]", '.pane-body [tabindex="0"]', '[role="tab"][tabindex="0"]'];
  const inside = wanted.map((it) => pane?.querySelector<HTMLElement>(it)).find(Boolean);
  inside?.focus();
}

/** How keys are written for people. */
export function keyText(key: string): string {
  return key.replace("ArrowUp", "↑").replace("ArrowDown", "↓").replace("Ctrl-", "Ctrl ").replace("Alt-", "Alt ");
}

export function keysOf(id: string): string {
  const found = commands.find((it) => it.id === id);
  return found ? found.keys.map(keyText).join(" or ") : "";
}

export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    const writes = target.closest("input, textarea, select, [contenteditable]") !== null;
    if (event.key === "Escape") {
      if (overlay.peek()) overlay.value = "";
      else if (maximised.peek()) maximised.value = null;
      else if (writes) target.blur();
      return;
    }
    const shiftF = event.shiftKey && /^F\d/.test(event.key);
    const name =
      (event.ctrlKey || event.metaKey ? "Ctrl-" : "") +
      (event.altKey ? "Alt-" : "") +
      (shiftF ? "Shift-" : "") +
      event.key;
    const single = !name.includes("-") || name === "-";
    if (writes && (single || name.startsWith("Shift-"))) return;
    if (single && event.key.length === 1 && event.key !== "?" && event.key !== "/" && letterKeys.peek() === "off") return;
    if (single && overlay.peek() && event.key !== "?") return;
    const command = commands.find((it) => it.keys.includes(name));
    if (!command) return;
    // Find in the page is the browser's where no source is shown.
    if (command.id === "find" && !shown("source")) return;
    event.preventDefault();
    acted();
    command.run();
  });
}
