// How the panes are arranged: rows and columns with weights, and tabs. A plain value, which the
// URL holds:
//
//   node = ("r"|"c")"("weight":"node{","weight":"node}")" | view{"+"view}
//   view = ["*"]name["~"argument]       "*" marks the tab in front
//
// Words of other versions are dropped, not guessed.

import { signal } from "@preact/signals";

export interface Tab {
  view: string;
  argument?: string;
}
export interface Tabs {
  kind: "tabs";
  tabs: Tab[];
  front: number;
}
export interface Split {
  kind: "row" | "column";
  children: { weight: number; node: Node }[];
}
export type Node = Tabs | Split;

export const layout = signal<Node>({ kind: "tabs", tabs: [{ view: "source" }], front: 0 });
/** A pane that fills everything, by a view in it. */
export const maximised = signal<string | null>(null);

/** Below this width there is one column with the tabs of all panes. */
export const NARROW_PX = 1100;
/** The view in front in that column; the layout stays as it was for when there is room again. */
export const narrowFront = signal<string>("source");

/** All tabs in one pane. */
export function merged(node: Node): Tabs {
  const tabs = panes(node).flatMap((it) => it.tabs);
  const front = tabs.findIndex((it) => it.view === narrowFront.value);
  return { kind: "tabs", tabs, front: Math.max(0, front) };
}

export const DEFAULT_SMALL =
  "r(57:c(72:source,28:*output+alerts+executions+calls+notes),43:c(27:*stack+threads,29:*locals+watches+registers,44:*dataflow+accesses+callees+disassembly+memory))";
export const DEFAULT_LARGE =
  "r(44:c(72:source,28:*output+alerts+calls),26:c(36:*stack+threads,64:*locals+watches+registers),30:c(50:*dataflow+accesses+memory,50:*executions+callees+disassembly+notes))";

const plain = (text: string) => encodeURIComponent(text).replace(/[()~*'!]/g, escapeOne);
const escapeOne = (c: string) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`;

export function write(node: Node): string {
  if (node.kind === "tabs") {
    const tab = (it: Tab, at: number) =>
      (at === node.front && node.tabs.length > 1 ? "*" : "") +
      it.view +
      (it.argument ? `~${plain(it.argument)}` : "");
    return node.tabs.map(tab).join("+");
  }
  const children = node.children.map((it) => `${Math.round(it.weight)}:${write(it.node)}`);
  return `${node.kind === "row" ? "r" : "c"}(${children.join(",")})`;
}

/** Null if it cannot be read. Unknown views are left out. */
export function read(text: string, known: (view: string) => boolean): Node | null {
  let at = 0;
  const node = (depth: number): Node | null => {
    if (depth > 6) throw new Error("too deep");
    const kind = text[at];
    if ((kind === "r" || kind === "c") && text[at + 1] === "(") {
      at += 2;
      const children: Split["children"] = [];
      for (;;) {
        const number = /^\d{1,4}:/.exec(text.slice(at, at + 6))?.[0];
        if (!number) throw new Error("no weight");
        at += number.length;
        const child = node(depth + 1);
        if (child) children.push({ weight: Math.max(1, Number.parseInt(number, 10)), node: child });
        const end = text[at++];
        if (end === ")") break;
        if (end !== "," || children.length > 12) throw new Error("no end");
      }
      if (children.length === 0) return null;
      if (children.length === 1) return children[0]?.node ?? null;
      return { kind: kind === "r" ? "row" : "column", children };
    }
    const words = /^[^(),:]*/.exec(text.slice(at))?.[0] ?? "";
    at += words.length;
    const tabs: Tab[] = [];
    let front = 0;
    for (const word of words.split("+")) {
      const starred = word.startsWith("*");
      const [view = "", argument] = (starred ? word.slice(1) : word).split("~");
      if (!known(view) || tabs.length > 40) continue;
      if (starred) front = tabs.length;
      tabs.push(argument ? { view, argument: decodeURIComponent(argument) } : { view });
    }
    return tabs.length > 0 ? { kind: "tabs", tabs, front } : null;
  };
  try {
    const result = node(0);
    return at === text.length ? result : null;
  } catch {
    return null;
  }
}

export function panes(node: Node): Tabs[] {
  return node.kind === "tabs" ? [node] : node.children.flatMap((it) => panes(it.node));
}

/** The same tree with one pane changed, or left out. */
export function replace(node: Node, pane: Tabs, by: Node | null): Node | null {
  if (node === pane) return by;
  if (node.kind === "tabs") return node;
  const children = node.children.flatMap((it) => {
    const next = replace(it.node, pane, by);
    return next ? [{ weight: it.weight, node: next }] : [];
  });
  if (children.length === 0) return null;
  if (children.length === 1) return children[0]?.node ?? null;
  return { kind: node.kind, children };
}

/** Views that belong together open beside each other. */
const COMPANIONS: string[][] = [
  ["dataflow", "accesses", "memory", "callees", "disassembly"],
  ["executions", "callees", "output", "alerts", "calls", "signals", "descriptors", "notes"],
  ["locals", "watches", "registers"],
  ["stack", "threads"],
];

export function shown(view: string): boolean {
  return panes(layout.peek()).some((pane) => pane.tabs[pane.front]?.view === view);
}

export function argumentOf(view: string): string | undefined {
  for (const pane of panes(layout.value)) {
    const tab = pane.tabs.find((it) => it.view === view);
    if (tab) return tab.argument;
  }
  return undefined;
}

/** Brings a view to the front, opening it where it fits if need be, perhaps for something else. */
export function show(view: string, argument?: string | null): void {
  const root = layout.peek();
  const all = panes(root);
  narrowFront.value = view;
  let pane = all.find((it) => it.tabs.some((tab) => tab.view === view));
  const make = (old?: Tab): Tab => {
    const next = argument === undefined ? old?.argument : (argument ?? undefined);
    return next ? { view, argument: next } : { view };
  };
  if (pane) {
    const at = pane.tabs.findIndex((tab) => tab.view === view);
    const tabs = pane.tabs.map((tab, n) => (n === at ? make(tab) : tab));
    layout.value = replace(root, pane, { kind: "tabs", tabs, front: at }) ?? root;
    return;
  }
  const companions = COMPANIONS.filter((them) => them.includes(view)).flat();
  pane = all.find((it) => it.tabs.some((tab) => companions.includes(tab.view))) ?? all.at(-1);
  if (!pane) return;
  const tabs = [...pane.tabs, make()];
  layout.value = replace(root, pane, { kind: "tabs", tabs, front: tabs.length - 1 }) ?? root;
}

export function close(shown: Tabs, index: number): void {
  // In the one column the pane is not of the layout.
  const view = shown.tabs[index]?.view;
  const pane = panes(layout.peek()).find((it) => it.tabs.some((tab) => tab.view === view));
  if (!pane) return;
  const at = pane.tabs.findIndex((tab) => tab.view === view);
  const tabs = pane.tabs.filter((_, n) => n !== at);
  const front = Math.min(pane.front >= at ? Math.max(0, pane.front - 1) : pane.front, tabs.length - 1);
  const by: Node | null = tabs.length > 0 ? { kind: "tabs", tabs, front } : null;
  const next = replace(layout.peek(), pane, by);
  if (next) layout.value = next;
}

export function bring(pane: Tabs, at: number): void {
  narrowFront.value = pane.tabs[at]?.view ?? narrowFront.peek();
  layout.value = replace(layout.peek(), pane, { ...pane, front: at }) ?? layout.peek();
}

export type Edge = "middle" | "left" | "right" | "top" | "bottom";

/** Moves a tab to another pane, or beside it. */
export function move(from: Tabs, at: number, to: Tabs, edge: Edge): void {
  const tab = from.tabs[at];
  if (!tab || (from === to && (edge === "middle" || from.tabs.length === 1))) return;
  const rest = from.tabs.filter((_, n) => n !== at);
  const left: Tabs | null =
    rest.length > 0 ? { kind: "tabs", tabs: rest, front: Math.min(from.front, rest.length - 1) } : null;
  const moved: Tabs = { kind: "tabs", tabs: [tab], front: 0 };
  const grow = (base: Tabs): Node => {
    if (edge === "middle") {
      return { kind: "tabs", tabs: [...base.tabs, tab], front: base.tabs.length };
    }
    const kind = edge === "left" || edge === "right" ? "row" : "column";
    const first = edge === "left" || edge === "top";
    const parts = first ? [moved, base] : [base, moved];
    return { kind, children: parts.map((node) => ({ weight: 50, node })) };
  };
  let root: Node | null = layout.peek();
  if (from === to && left) root = replace(root, from, grow(left));
  else {
    root = replace(root, to, grow(to));
    root = root && replace(root, from, left);
  }
  if (root) layout.value = root;
}
