// The menu of a right click: all verbs for what is under it.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Value } from "../protocol/types";
import { show } from "../state/layout";
import { go, say } from "../state/focus";
import { addWatch } from "../state/watches";

interface Item {
  title: string;
  keys?: string;
  run(): void;
}

const menu = signal<{ x: number; y: number; items: Item[] } | null>(null);

export function openMenu(event: MouseEvent, items: Item[]): void {
  event.preventDefault();
  event.stopPropagation();
  const box = (event.target as HTMLElement).getBoundingClientRect();
  // The Menu key gives no place of its own.
  const x = event.clientX || box.left;
  const y = event.clientY || box.bottom;
  menu.value = { x, y, items };
}

export function copy(text: string): void {
  navigator.clipboard?.writeText(text).then(
    () => say("Copied"),
    () => say("The browser does not let this page copy"),
  );
}

export function valueMenu(event: MouseEvent, value: Value): void {
  const { path, text, address, size } = value;
  const items: Item[] = [];
  if (path) {
    const about = (view: string) => () => {
      go({ data: path });
      show(view);
    };
    items.push(
      { title: "Where it came from", keys: "o", run: about("dataflow") },
      { title: "Who wrote and read it", keys: "a", run: about("accesses") },
      { title: "Memory", keys: "m", run: about("memory") },
      { title: "Watch it", run: () => addWatch(path) },
      { title: "Watch what it points to", run: () => addWatch(`*${path}`) },
      { title: "Watch it in hexadecimal", run: () => addWatch(`${path},x`) },
    );
  }
  if (address) {
    const raw = `@${address}:${size ?? 8}`;
    items.push({ title: `The place itself, ${raw}`, run: () => go({ data: raw }) });
  }
  items.push({ title: "Copy the value", run: () => copy(text ?? "") });
  if (path) items.push({ title: "Copy the expression", run: () => copy(path) });
  openMenu(event, items);
}

export function Menu() {
  const list = useRef<HTMLDivElement>(null);
  const before = useRef<Element | null>(null);
  const open = menu.value;
  useEffect(() => {
    if (!open) return;
    before.current = document.activeElement;
    list.current?.querySelector<HTMLElement>("button")?.focus();
    const away = (event: Event) => {
      if (!list.current?.contains(event.target as Node)) menu.value = null;
    };
    document.addEventListener("pointerdown", away);
    return () => document.removeEventListener("pointerdown", away);
  }, [open]);
  if (!open) return null;
  const end = () => {
    menu.value = null;
    (before.current as HTMLElement | null)?.focus?.();
  };
  const keys = (event: KeyboardEvent) => {
    const buttons = [...(list.current?.querySelectorAll<HTMLElement>("button") ?? [])];
    const at = buttons.indexOf(document.activeElement as HTMLElement);
    const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (by) buttons[(at + by + buttons.length) % buttons.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") end();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const style = {
    left: `${Math.min(open.x, window.innerWidth - 280)}px`,
    top: `${Math.min(open.y + 2, window.innerHeight - 26 * open.items.length - 16)}px`,
  };
  return (
    <div class="menu" role="menu" ref={list} style={style} onKeyDown={keys}>
      {open.items.map((it) => (
        <button
          type="button"
          role="menuitem"
          key={it.title}
          onClick={() => {
            end();
            it.run();
          }}
        >
          <span>{it.title}</span>
          {it.keys ? <kbd>{it.keys}</kbd> : null}
        </button>
      ))}
    </div>
  );
}
