// Values as a tree: unfolded in place, a hundred children at a time.

import { useState } from "preact/hooks";
import type { Focus, Value as ValueNoun } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { focus } from "../state/focus";
import { Icon } from "./icons";
import { Failed } from "./states";
import { grouped } from "./text";
import { Value } from "./value";

const CHILDREN = 100;

interface Properties {
  value: ValueNoun;
  level: number;
  at?: Focus | undefined;
  changed?(path: string, text: string): boolean;
  /** Paths that are open, kept by the view so that they stay open when the focus moves. */
  open: Set<string>;
  toggle(path: string): void;
  onRename?: ((value: ValueNoun) => void) | undefined;
  remove?: (() => void) | undefined;
}

export function TreeRow(properties: Properties) {
  const { value, level, open, toggle, changed } = properties;
  const path = value.path ?? "";
  const leaf = value.children === undefined || value.children === 0 || !path;
  const isOpen = !leaf && open.has(path);
  const hasChanged = changed?.(path, value.text ?? "") ?? false;
  return (
    <>
      <div
        class={`tree-row${value.group ? ` group-${value.group}` : ""}`}
        role="treeitem"
        aria-level={level + 1}
        aria-expanded={leaf ? undefined : isOpen}
        tabIndex={-1}
        data-path={path}
        style={{ paddingLeft: `${8 + level * 16}px` }}
        onClick={(event) => {
          if (!event.defaultPrevented && !leaf) toggle(path);
        }}
      >
        {leaf ? (
          <span class="twisty" />
        ) : (
          <span class={isOpen ? "twisty twisty-open" : "twisty"}>
            <Icon name="open" />
          </span>
        )}
        <span class="tree-name" title={path} onDblClick={() => properties.onRename?.(value)}>
          {value.name ?? path}
        </span>
        <Value value={value} at={properties.at} changed={hasChanged} />
        <span class="tree-type" title={value.type}>
          {value.type}
        </span>
        {properties.remove ? (
          <button
            type="button"
            class="icon-button tree-remove"
            title="Watch it no longer"
            onClick={(event) => {
              event.preventDefault();
              properties.remove?.();
            }}
          >
            <Icon name="close" />
          </button>
        ) : null}
      </div>
      {isOpen ? <Children {...properties} /> : null}
    </>
  );
}

function Children(properties: Properties) {
  const { value, level } = properties;
  const [count, setCount] = useState(CHILDREN);
  const at = properties.at ?? focus.value;
  const answer = useAnswer<ValueNoun>({
    question: "unfold",
    arguments: { path: value.path, from: 0, count },
    ...(at ? { focus: at } : {}),
    window: { before: 0, after: count },
  });
  const left = typeof value.children === "number" ? value.children - answer.rows.length : 0;
  if (answer.error) return <Failed answer={answer} />;
  return (
    <>
      {answer.rows.map((child, n) => (
        <TreeRow
          {...properties}
          key={child.path ?? n}
          value={child}
          level={level + 1}
          onRename={undefined}
          remove={undefined}
        />
      ))}
      {left > 0 && answer.end ? (
        <div class="tree-row" style={{ paddingLeft: `${8 + (level + 1) * 16}px` }}>
          <button type="button" class="text-button" onClick={() => setCount(count + CHILDREN)}>
            {grouped(left)} more
          </button>
        </div>
      ) : null}
    </>
  );
}

/** Keys of a tree: up and down over what is shown, right and left unfold, Enter asks. */
export function treeKeys(event: KeyboardEvent): void {
  const tree = event.currentTarget as HTMLElement;
  if ((event.target as HTMLElement).closest("input, button")) return;
  const items = [...tree.querySelectorAll<HTMLElement>('[role="treeitem"]')];
  const at = items.indexOf(document.activeElement as HTMLElement);
  const item = items[at];
  const level = (it: HTMLElement | undefined) => Number(it?.getAttribute("aria-level") ?? 0);
  const expanded = item?.getAttribute("aria-expanded");
  const to = (index: number) => items[Math.max(0, Math.min(items.length - 1, index))]?.focus();
  switch (event.key) {
    case "ArrowDown":
      to(at + 1);
      break;
    case "ArrowUp":
      to(at - 1);
      break;
    case "Home":
      to(0);
      break;
    case "End":
      to(items.length - 1);
      break;
    case "ArrowRight":
      if (expanded === "false") item?.click();
      else if (expanded === "true") to(at + 1);
      break;
    case "ArrowLeft":
      if (expanded === "true") item?.click();
      else {
        for (let up = at - 1; up >= 0; up--) {
          if (level(items[up]) < level(item)) {
            items[up]?.focus();
            break;
          }
        }
      }
      break;
    case "Enter":
      item?.querySelector<HTMLElement>("a.value")?.click();
      break;
    default:
      return;
  }
  if (event.altKey) return;
  event.preventDefault();
}
