// Lists that are the same wherever they are asked: once such a list is complete, moving the focus
// moves the line between past and future in it, and nothing is asked again.

import { useRef } from "preact/hooks";
import type { Answer } from "./use_answer";
import type { Focus } from "./types";

export interface Anchor {
  /** Where to ask, given where the focus is. */
  at(now: Focus | null, list: string): Focus | null;
  /** To be told the answer, behind the question. */
  seen(answer: Answer<unknown>): void;
}

export function useAnchor(): Anchor {
  const kept = useRef<{ list: string; at: Focus | null; complete: boolean }>({
    list: "",
    at: null,
    complete: false,
  });
  return {
    at: (now, list) => {
      const it = kept.current;
      if (it.complete && it.list === list && it.at) return it.at;
      kept.current = { list, at: now, complete: false };
      return now;
    },
    seen: (answer) => {
      kept.current.complete = answer.end?.end === "complete";
    },
  };
}
