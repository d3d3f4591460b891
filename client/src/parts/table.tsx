// A windowed list of rows in the order of time, with the focus as a line between past and future.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Answer } from "../protocol/use_answer";
import type { Row, Target } from "../protocol/types";
import { focus, go, moment } from "../state/focus";
import { isPlain, Link } from "./link";
import { States } from "./states";
import { grouped } from "./text";

export const ROW_PX = 22;
const SPARE = 12;

export interface Column<R> {
  id: string;
  title: string;
  /** A track of a CSS grid. */
  width: string;
  cell(row: R): ComponentChildren;
  number?: boolean;
}

interface Properties<R extends Row> {
  name: string;
  answer: Answer<R>;
  columns: Column<R>[];
  empty: ComponentChildren;
  target?(row: R): Target | null | undefined;
  rowClass?(row: R): string;
  /** What a plain click does besides going there. */
  click?(row: R): void;
  /** Rows are not in time: no line, no scrolling to the focus. */
  timeless?: boolean;
  /** Which row is meant by the focus, if not the one of its moment. */
  current?(row: R): boolean;
  head?: boolean;
}

const targetOf = (row: Row): Target | null => {
  if (row.focus) return row.focus;
  if (row.moment === undefined) return null;
  return row.task === undefined ? { moment: row.moment } : { moment: row.moment, task: row.task };
};

export function Table<R extends Row>(properties: Properties<R>) {
  const { answer, columns, name } = properties;
  const { rows } = answer;
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  const [active, setActive] = useState(-1);
  const now = moment.value;
  const target = properties.target ?? targetOf;
  const timed = !properties.timeless;

  const isCurrent = (row: R) =>
    properties.current ? properties.current(row) : timed && Number(row.moment) === now;
  const found = rows.findIndex(isCurrent);
  const cut = timed ? rows.findIndex((row) => Number(row.moment) > now) : -1;
  const line = cut < 0 && timed && rows.length > 0 ? rows.length : cut;

  useLayoutEffect(() => {
    const it = box.current;
    if (!it) return;
    const observer = new ResizeObserver(() => setHeight(it.clientHeight));
    observer.observe(it);
    return () => observer.disconnect();
  }, [answer.first]);

  // Brings the focus into sight when it moves, not when rows are added at the ends.
  const key = `${now}/${answer.end ? 1 : 0}/${focus.value?.frame ?? ""}`;
  useLayoutEffect(() => {
    const it = box.current;
    const at = found >= 0 ? found : line;
    if (!it || at < 0 || answer.loading) return;
    const y = at * ROW_PX;
    if (y < it.scrollTop + ROW_PX || y > it.scrollTop + it.clientHeight - 2 * ROW_PX) {
      it.scrollTop = Math.max(0, y - it.clientHeight / 2);
    }
  }, [key, answer.loading]);

  useEffect(() => {
    if (active >= rows.length) setActive(rows.length - 1);
  }, [rows.length]);

  const from = Math.max(0, Math.floor(top / ROW_PX) - SPARE);
  const to = Math.min(rows.length, Math.ceil((top + height) / ROW_PX) + SPARE);

  const reach = (at: number) => {
    const next = Math.max(0, Math.min(rows.length - 1, at));
    setActive(next);
    const it = box.current;
    if (!it) return;
    if (next * ROW_PX < it.scrollTop) it.scrollTop = next * ROW_PX;
    const bottom = (next + 1) * ROW_PX + (properties.head === false ? 0 : ROW_PX);
    if (bottom > it.scrollTop + it.clientHeight) it.scrollTop = bottom - it.clientHeight;
  };
  const enter = (row: R | undefined) => {
    if (!row) return;
    const there = target(row);
    properties.click?.(row);
    if (there) go(there);
  };
  const keys = (event: KeyboardEvent) => {
    if ((event.target as HTMLElement).closest("input, select, button")) return;
    const start = active < 0 ? Math.max(0, found >= 0 ? found : line - 1) : active;
    const page = Math.max(1, Math.floor(height / ROW_PX) - 2);
    const moves: Record<string, number> = {
      ArrowDown: active < 0 ? start : start + 1,
      ArrowUp: active < 0 ? start : start - 1,
      PageDown: start + page,
      PageUp: start - page,
      Home: 0,
      End: rows.length - 1,
    };
    const next = moves[event.key];
    if (next !== undefined && !event.altKey) reach(next);
    else if (event.key === "Enter") {
      const inner = box.current?.querySelector<HTMLElement>(`#${name}-${active} a.value:not(.row-link)`);
      if (event.ctrlKey && inner) inner.click();
      else enter(rows[active]);
    } else return;
    event.preventDefault();
  };

  const grid = { gridTemplateColumns: columns.map((it) => it.width).join(" ") };
  const end = answer.end;
  const more = end?.after ? "after" : null;
  return (
    <States answer={answer} empty={properties.empty}>
      <div
        class="table"
        role="grid"
        aria-label={name}
        aria-rowcount={rows.length}
        aria-activedescendant={active >= 0 ? `${name}-${active}` : undefined}
        tabIndex={0}
        data-home
        ref={box}
        onScroll={(event) => setTop(event.currentTarget.scrollTop)}
        onKeyDown={keys}
      >
        {properties.head === false ? null : (
          <div class="table-head" role="row" style={grid}>
            {columns.map((it) => (
              <span key={it.id} role="columnheader" class={it.number ? "number-cell" : undefined}>
                {it.title}
              </span>
            ))}
          </div>
        )}
        {end?.before ? <More answer={answer} side="before" /> : null}
        <div class="table-rows" style={{ height: `${rows.length * ROW_PX}px` }}>
          {rows.slice(from, to).map((row, n) => {
            const at = from + n;
            const there = target(row);
            const classes = ["table-row"];
            if (at === found) classes.push("current");
            if (at === active) classes.push("active");
            if (timed && found < 0 && at === line) classes.push("first-after");
            if (timed && Number(row.moment) > now) classes.push("future");
            if (properties.rowClass) classes.push(properties.rowClass(row));
            return (
              <div
                key={at}
                id={`${name}-${at}`}
                role="row"
                aria-rowindex={at + 1}
                aria-current={at === found ? "true" : undefined}
                class={classes.join(" ")}
                style={{ top: `${at * ROW_PX}px`, ...grid }}
                onClick={(event) => {
                  setActive(at);
                  if (!isPlain(event) || event.defaultPrevented) return;
                  enter(row);
                }}
              >
                {columns.map((it, first) => (
                  <span key={it.id} role="gridcell" class={it.number ? "number-cell" : "cell"}>
                    {first === 0 && there ? (
                      <Link to={there} class="row-link" tabIndex={-1} {...(properties.click ? { before: () => properties.click?.(row) } : {})}>
                        {it.cell(row)}
                      </Link>
                    ) : (
                      it.cell(row)
                    )}
                  </span>
                ))}
              </div>
            );
          })}
          {timed && found < 0 && line === rows.length && rows.length > 0 ? (
            <div class="focus-line" style={{ top: `${rows.length * ROW_PX - 1}px` }} />
          ) : null}
        </div>
        {more ? <More answer={answer} side={more} /> : null}
        {end?.end === "deadline" ? <div class="table-note">The time was over: this is not all.</div> : null}
        {end?.end === "cancelled" ? <div class="table-note">Cancelled: this is not all.</div> : null}
      </div>
    </States>
  );
}

function More({ answer, side }: { answer: Answer<unknown>; side: "before" | "after" }) {
  const { end, rows } = answer;
  const of = end?.matched && end.exact ? ` of ${grouped(end.matched)}` : "";
  return (
    <div class="table-note">
      {grouped(rows.length)}
      {of}.{" "}
      <button type="button" class="text-button" onClick={() => answer.more(side)}>
        {side === "before" ? "Load earlier" : "Load more"}
      </button>
    </div>
  );
}
