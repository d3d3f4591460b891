// The search box, which is the command line: functions, files, lines, moments, views, commands;
// `=` evaluates.

import { useEffect, useRef, useState } from "preact/hooks";
import { useAnswer } from "../protocol/use_answer";
import type { Found, Value as ValueNoun } from "../protocol/types";
import { commands, keyText, overlay } from "../state/commands";
import { focus, go } from "../state/focus";
import { show } from "../state/layout";
import { addWatch } from "../state/watches";
import { views } from "../views/registry";
import { Icon } from "./icons";
import { fileName, grouped, shortName } from "./text";
import { Value } from "./value";

interface Item {
  kind: string;
  name: string;
  detail: string;
  count?: string;
  run(): void;
}

const LOCAL_MAX = 6;
const DELAY_MS = 60;

function local(text: string): Item[] {
  const wanted = text.toLowerCase();
  if (!wanted) return [];
  const items: Item[] = [];
  for (const it of views) {
    if (it.title.toLowerCase().includes(wanted)) {
      items.push({ kind: "view", name: it.title, detail: it.asks, run: () => show(it.id) });
    }
  }
  for (const it of commands) {
    if (it.title.toLowerCase().includes(wanted) || it.id.startsWith(wanted)) {
      items.push({ kind: "command", name: it.title, detail: it.keys.map(keyText).join(", "), run: it.run });
    }
  }
  return items.slice(0, LOCAL_MAX);
}

function found(row: Found): Item {
  const { kind, name, place, focus: target } = row;
  const run = () => {
    if (kind === "function") show("executions", `function:${place?.full ?? name}`);
    else if (kind === "file" && (place?.file ?? name)) show("source", place?.file ?? name);
    else if (kind === "line" && place?.file) show("source", `${place.file}:${place.line ?? 1}`);
    else if (kind === "global") go({ data: name });
    else if (target) go(target);
    if (kind === "global") show("dataflow");
  };
  const detail = row.detail ?? (place?.file ? `${fileName(place.file)}${place.line ? `:${place.line}` : ""}` : "");
  return {
    kind,
    name: kind === "function" ? shortName(name) : kind === "moment" ? grouped(name) : name,
    detail,
    ...(row.count === undefined ? {} : { count: `${grouped(row.count)} x` }),
    run,
  };
}

export function Search() {
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState("");
  const [asked, setAsked] = useState("");
  const [at, setAt] = useState(0);
  const [open, setOpen] = useState(false);
  const now = focus.value;
  const expression = asked.startsWith("=") ? asked.slice(1).trim() : "";
  useEffect(() => {
    const timer = setTimeout(() => setAsked(text.trim()), DELAY_MS);
    return () => clearTimeout(timer);
  }, [text]);
  useEffect(() => {
    if (overlay.value !== "search" && overlay.value !== "go") return;
    input.current?.focus();
    input.current?.select();
    overlay.value = "";
    setOpen(true);
  }, [overlay.value]);
  const answer = useAnswer<Found>(
    open && asked && !expression && !asked.startsWith("=")
      ? { question: "search", arguments: { text: asked }, window: { before: 0, after: 30 } }
      : null,
  );
  const value = useAnswer<ValueNoun>(
    open && expression && now ? { question: "evaluate", arguments: { expression }, focus: now } : null,
  );
  const remote = asked && !expression && !answer.error ? answer.rows.map(found) : [];
  const items = expression
    ? [{ kind: "watch", name: `Watch ${expression}`, detail: "", run: () => addWatch(expression) }]
    : [...local(asked), ...remote];
  useEffect(() => setAt(0), [asked]);
  const end = () => {
    setOpen(false);
    input.current?.blur();
  };
  const choose = (it: Item | undefined) => {
    if (!it) return;
    end();
    setText("");
    it.run();
  };
  const keys = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) setAt((at + by + items.length) % Math.max(1, items.length));
    else if (event.key === "Enter") {
      // What is typed counts, though the answer to it may be on its way.
      if (text.trim() === asked) choose(items[at]);
    } else if (event.key === "Escape") end();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="search" role="search">
      <Icon name="search" />
      <input
        ref={input}
        type="text"
        role="combobox"
        aria-label="Search or command"
        aria-expanded={open && items.length > 0}
        aria-controls="search-list"
        aria-activedescendant={open && items.length > 0 ? `found-${at}` : undefined}
        placeholder="Search, or give a command"
        spellcheck={false}
        autocomplete="off"
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setOpen(true);
        }}
        onFocus={() => setOpen(true)}
        onBlur={() =>
          setTimeout(() => {
            // It may have been left and come back to.
            if (document.activeElement !== input.current) setOpen(false);
          }, 150)
        }
        onKeyDown={keys}
      />
      <kbd>/</kbd>
      {open && text ? (
        <div class="search-list" id="search-list" role="listbox">
          {expression && value.rows[0] ? (
            <div class="search-value">
              <Value value={{ ...value.rows[0], name: expression }} name />
              <span class="tree-type">{value.rows[0].type}</span>
            </div>
          ) : null}
          {expression && value.error ? <div class="search-none">{value.error.what}</div> : null}
          {items.map((it, n) => (
            <div
              id={`found-${n}`}
              key={n}
              role="option"
              aria-selected={n === at}
              class={n === at ? "found active" : "found"}
              onMouseDown={(event) => {
                event.preventDefault();
                choose(it);
              }}
            >
              <span class="found-kind">{it.kind}</span>
              <span class="found-name">{it.name}</span>
              <span class="found-detail">{it.detail}</span>
              <span class="found-count">{it.count ?? ""}</span>
            </div>
          ))}
          {items.length === 0 && !answer.loading && !value.loading && text.trim() === asked ? (
            <div class="search-none">Nothing is called {asked}. A text after = is evaluated.</div>
          ) : null}
          {answer.error ? <div class="search-none">{answer.error.what}</div> : null}
        </div>
      ) : null}
    </div>
  );
}
