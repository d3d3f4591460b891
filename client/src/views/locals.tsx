// Locals: the values of the frame, with what has changed since the last focus in it.

import { useEffect, useRef, useState } from "preact/hooks";
import { States } from "../parts/states";
import { TreeRow, treeKeys } from "../parts/tree";
import type { Value } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { focusKey, here, settled } from "../state/focus";
import { addWatch } from "../state/watches";

/** Which paths are unfolded, by function: the same ones when one comes back. */
const unfolded = new Map<string, Set<string>>();

export function useOpen(key: string): [Set<string>, (path: string) => void] {
  const [, redraw] = useState(0);
  const open = unfolded.get(key) ?? new Set<string>();
  unfolded.set(key, open);
  const toggle = (path: string) => {
    if (!open.delete(path)) open.add(path);
    redraw((n) => n + 1);
  };
  return [open, toggle];
}

/** Tells whether a value differs from what it was when the frame was looked at before. */
export function useChanged(rows: Value[], frame: string, key: string, complete: boolean) {
  const seen = useRef({ frame: "", key: "", now: new Map<string, string>(), before: new Map<string, string>() });
  useEffect(() => {
    const it = seen.current;
    if (!complete || it.key === key) return;
    it.before = it.frame === frame ? it.now : new Map();
    it.now = new Map(rows.map((row) => [row.path ?? "", row.text ?? ""]));
    it.frame = frame;
    it.key = key;
  }, [key, complete]);
  return (path: string, text: string) => {
    const it = seen.current;
    const before = it.key === key ? it.before : it.frame === frame ? it.now : undefined;
    const old = before?.get(path);
    return old !== undefined && old !== text;
  };
}

export function LocalsView() {
  const now = settled.value;
  const answer = useAnswer<Value>(
    now ? { question: "variables", focus: now, window: { before: 0, after: 500 } } : null,
  );
  const place = here.value.place;
  const [open, toggle] = useOpen(`${place?.file}/${place?.function}`);
  const complete = answer.end !== null && !answer.error;
  const changed = useChanged(answer.rows, now?.frame ?? place?.function ?? "", focusKey(now), complete);
  return (
    <States
      answer={answer}
      empty={
        <p>
          {place?.function ? <b>{place.function}</b> : "This code"} has no variables that are known
          here. Its caller may: press Alt ↑.
        </p>
      }
    >
      <div class="tree" role="tree" aria-label="Locals" onKeyDown={treeKeys}>
        {answer.rows.map((value, n) => (
          <div key={`${value.path}${n}`}>
            {value.group && value.group !== answer.rows[n - 1]?.group && n > 0 ? <hr class="tree-rule" /> : null}
            <TreeRow
              value={value}
              level={0}
              open={open}
              toggle={toggle}
              changed={changed}
              onRename={(it) => addWatch(it.path ?? it.name ?? "")}
            />
          </div>
        ))}
        <TreeHome />
      </div>
    </States>
  );
}

/** Takes the keyboard's focus for the first row, whichever that is now. */
export function TreeHome() {
  return (
    <span
      tabIndex={0}
      data-home
      class="tree-home"
      onFocus={(event) => {
        const tree = event.currentTarget.closest('[role="tree"]');
        tree?.querySelector<HTMLElement>('[role="treeitem"]')?.focus();
      }}
    />
  );
}
