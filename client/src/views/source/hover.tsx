// Hovering over a name tells its value at the focus; a click makes it the data.

import { useRef, useState } from "preact/hooks";
import { Value, pick } from "../../parts/value";
import { isPlain } from "../../parts/link";
import { ask } from "../../protocol/connection";
import type { Value as ValueNoun } from "../../protocol/types";
import { expressionAt } from "../../source/colours";
import { focus } from "../../state/focus";
import { show } from "../../state/layout";

const HOVER_MS = 150;

interface Shown {
  x: number;
  y: number;
  expression: string;
  value: ValueNoun | null;
  failure: string;
}

/** The expression under an element of the text, if it is a name. */
function under(target: EventTarget | null, lines: string[]): { expression: string; element: HTMLElement } | null {
  const element = (target as HTMLElement | null)?.closest<HTMLElement>(".t-name");
  const line = element?.closest<HTMLElement>("[data-line]");
  if (!element || !line) return null;
  let from = 0;
  for (let it = element.previousElementSibling; it; it = it.previousElementSibling) {
    from += it.textContent?.length ?? 0;
  }
  const text = lines[Number(line.dataset.line) - 1] ?? "";
  return { expression: expressionAt(text, from, element.textContent ?? ""), element };
}

export function useHover(lines: string[]) {
  const [shown, setShown] = useState<Shown | null>(null);
  const timer = useRef(0);
  const stop = useRef<(() => void) | null>(null);

  const leave = () => {
    clearTimeout(timer.current);
    stop.current?.();
    stop.current = null;
    setShown(null);
  };
  const over = (event: MouseEvent) => {
    const it = under(event.target, lines);
    clearTimeout(timer.current);
    if (!it) {
      leave();
      return;
    }
    timer.current = window.setTimeout(() => {
      const now = focus.peek();
      if (!now) return;
      const box = it.element.getBoundingClientRect();
      const base = { x: box.left, y: box.bottom, expression: it.expression };
      stop.current?.();
      stop.current = ask(
        { question: "evaluate", arguments: { expression: it.expression }, focus: now },
        {
          rows: (rows) => setShown({ ...base, value: (rows[0] as ValueNoun | undefined) ?? null, failure: "" }),
          end: (end) => {
            // Names of functions and types have no value: nothing to say about them.
            if (end.error && end.error.code === "not-available") {
              setShown({ ...base, value: null, failure: end.error.what });
            }
          },
        },
      );
    }, HOVER_MS);
  };
  const click = (event: MouseEvent) => {
    if (window.getSelection()?.toString()) return;
    const it = under(event.target, lines);
    if (!it) return;
    const call = it.element.classList.contains("t-function");
    if (call && isPlain(event)) show("executions", `function:${it.element.textContent ?? ""}`);
    else if (isPlain(event)) pick(it.expression);
  };
  const popup = shown ? (
    <div class="hover" style={{ left: `${shown.x}px`, top: `${shown.y + 4}px` }} role="tooltip">
      <span class="hover-name">{shown.expression}</span>
      {shown.value ? <Value value={shown.value} /> : <span class="dim">{shown.failure}</span>}
      {shown.value?.type ? <span class="tree-type">{shown.value.type}</span> : null}
    </div>
  ) : null;
  return { handlers: { onMouseOver: over, onMouseLeave: leave, onClick: click, onScrollCapture: leave }, popup };
}
