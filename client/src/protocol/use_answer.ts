// A question as a hook: old rows stay until new ones come, answers are remembered, the time from
// the click to the painted answer is told to the pane.

import { createContext } from "preact";
import { useContext, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask, epoch, type Question } from "./connection";
import type { End, Failure, Progress } from "./types";

export interface Times {
  paint: number;
  server?: Record<string, number> | undefined;
}

/** Where a view tells how long its answers took. */
export const PaneTimes = createContext<(times: Times) => void>(() => {});

let lastAction = 0;
/** To be called when the user does something that asks. */
export function acted(): void {
  lastAction = performance.now();
}

export interface Answer<R> {
  rows: R[];
  end: End | null;
  error: Failure | null;
  progress: Progress | null;
  /** Nothing has been answered yet, not even something else. */
  first: boolean;
  loading: boolean;
  /** Loading for so long that it should be seen. */
  slow: boolean;
  retry(): void;
  cancel(): void;
  more(side: "before" | "after"): void;
}

interface Kept<R> {
  key: string;
  before: R[];
  after: R[];
  end: End | null;
}

const CACHE_MAX = 400;
const CACHED_ROWS_MAX = 5000;
const cache = new Map<string, Kept<unknown>>();
let cacheEpoch = 0;

function remembered<R>(key: string): Kept<R> | undefined {
  if (cacheEpoch !== epoch.peek()) {
    // Another server may have another database.
    cache.clear();
    cacheEpoch = epoch.peek();
  }
  const kept = cache.get(key);
  if (kept) {
    cache.delete(key);
    cache.set(key, kept);
  }
  return kept as Kept<R> | undefined;
}

function remember(kept: Kept<unknown>): void {
  if (kept.before.length + kept.after.length > CACHED_ROWS_MAX) return;
  cache.set(kept.key, kept);
  if (cache.size > CACHE_MAX) cache.delete(cache.keys().next().value as string);
}

const SLOW_MS = 150;

export function useAnswer<R>(question: Question | null, version = 0): Answer<R> {
  const key = question ? JSON.stringify([question, version]) : "";
  const kept = useRef<Kept<R>>({ key: "", before: [], after: [], end: null });
  const [, draw] = useState(0);
  const redraw = () => draw((n) => n + 1);
  const [again, setAgain] = useState(0);
  const running = useRef<{ cancel: () => void } | null>(null);
  const slow = useRef(false);
  const progress = useRef<Progress | null>(null);
  const timed = useRef("");
  const started = useRef(0);
  const tell = useContext(PaneTimes);

  const run = (asked: Question, into: Kept<R>, whole: (end: End) => End) => {
    let fresh = true;
    started.current = performance.now();
    const begin = () => {
      if (!fresh) return;
      fresh = false;
      kept.current = into;
    };
    const timer = setTimeout(() => {
      slow.current = true;
      redraw();
    }, SLOW_MS);
    const finish = () => {
      clearTimeout(timer);
      slow.current = false;
      progress.current = null;
      running.current = null;
    };
    const stop = ask(asked, {
      rows: (rows) => {
        begin();
        for (const row of rows as (R & { side?: string })[]) {
          (row.side === "before" ? into.before : into.after).push(row);
        }
        redraw();
      },
      progress: (it) => {
        progress.current = it;
        redraw();
      },
      end: (end) => {
        finish();
        if (end.end !== "lost") {
          begin();
          into.end = whole(end);
          if (end.end === "complete" || end.end === "rows") remember(into as Kept<unknown>);
        }
        redraw();
      },
    });
    running.current = {
      cancel: () => {
        finish();
        stop();
      },
    };
  };

  const now = epoch.value;
  useLayoutEffect(() => {
    if (!question) return;
    const known = again === 0 ? remembered<R>(key) : undefined;
    if (known) {
      kept.current = known;
      redraw();
      return;
    }
    run(question, { key, before: [], after: [], end: null }, (end) => end);
    redraw();
    return () => running.current?.cancel();
    // Everything else follows from the key.
  }, [key, now, again]);

  const current = kept.current;
  const answered = question !== null && current.key === key;
  useLayoutEffect(() => {
    if (!answered || !current.end || timed.current === key) return;
    timed.current = key;
    const since = Math.max(lastAction, 0);
    const from = performance.now() - since < 10_000 && since > 0 ? since : started.current;
    const server = current.end.times;
    requestAnimationFrame(() => {
      // Behind the frame that draws this.
      setTimeout(() => tell({ paint: performance.now() - from, server }), 0);
    });
  });

  const loading = question !== null && (!answered || running.current !== null);
  return {
    rows: [...current.before].reverse().concat(current.after),
    end: answered ? current.end : null,
    error: answered ? (current.end?.error ?? null) : null,
    progress: progress.current,
    first: current.key === "",
    loading,
    slow: loading && slow.current,
    retry: () => setAgain((n) => n + 1),
    cancel: () => {
      running.current?.cancel();
      redraw();
    },
    more: (side) => {
      const cursor = current.end?.[side];
      if (!question || !cursor || running.current) return;
      const count = question.window?.after ?? 100;
      const window = side === "before" ? { before: count, after: 0 } : { before: 0, after: count };
      const had = current.end;
      const other = side === "before" ? "after" : "before";
      const longer: Kept<R> = {
        key,
        before: [...current.before],
        after: [...current.after],
        end: null,
      };
      // The other side ends where it did.
      run({ ...question, window, cursor }, longer, (end) => ({
        ...end,
        [other]: had?.[other] ?? null,
      }));
      redraw();
    },
  };
}
