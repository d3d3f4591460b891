// Colours of a source text, line by line, from states that are kept at each line: a line far down
// is coloured as soon as the lines before have been read once, in slices that do not hold up
// anything.

import { Stream, type Mode } from "./stream";

export interface Token {
  text: string;
  kind: string;
}

const SLICE_LINES = 4000;
const LONG_LINE = 2000;

const KINDS: Record<string, string> = {
  keyword: "keyword",
  "variable-3": "type",
  type: "type",
  typeName: "type",
  atom: "number",
  number: "number",
  string: "string",
  "string-2": "string",
  comment: "comment",
  meta: "comment",
  def: "function",
  builtin: "type",
};

export class Colours {
  private readonly states: unknown[] = [];
  private readonly tokens = new Map<number, Token[]>();

  constructor(
    private readonly lines: string[],
    private readonly mode: Mode | null,
  ) {}

  /** The tokens of a line, counted from 0; plain where the states do not reach yet. */
  line(at: number): Token[] {
    const text = this.lines[at] ?? "";
    if (!this.mode || text.length > LONG_LINE) return words([{ text, kind: "" }]);
    const known = this.tokens.get(at);
    if (known) return known;
    if (!this.reach(at, SLICE_LINES)) return words([{ text, kind: "" }]);
    const state = this.copy(this.states[at]);
    const tokens = words(this.run(text, state));
    if (this.tokens.size > 5000) this.tokens.clear();
    this.tokens.set(at, tokens);
    return tokens;
  }

  /** Reads on towards a line; whether its state is known now. */
  reach(at: number, most: number): boolean {
    const mode = this.mode;
    if (!mode) return true;
    if (this.states.length === 0) this.states.push(mode.startState?.(2) ?? {});
    for (let n = 0; this.states.length <= at && n < most; n++) {
      const from = this.states.length - 1;
      const state = this.copy(this.states[from]);
      this.run(this.lines[from] ?? "", state);
      this.states.push(state);
    }
    return this.states.length > at;
  }

  private copy(state: unknown): unknown {
    const mode = this.mode;
    if (mode?.copyState) return mode.copyState(state);
    if (state === null || typeof state !== "object") return state;
    return Object.fromEntries(
      Object.entries(state).map(([key, it]) => [key, Array.isArray(it) ? [...it] : it]),
    );
  }

  private run(text: string, state: unknown): Token[] {
    const mode = this.mode;
    if (!mode) return [{ text, kind: "" }];
    if (text === "") {
      mode.blankLine?.(state, 2);
      return [];
    }
    const stream = new Stream(text);
    const tokens: Token[] = [];
    while (!stream.eol()) {
      stream.start = stream.pos;
      const style = mode.token(stream, state);
      // A mode that stands still would stand for ever.
      if (stream.pos <= stream.start) stream.pos = stream.start + 1;
      const kind = style ? (KINDS[style.split(/[ .]/)[0] ?? ""] ?? "") : "";
      const piece = stream.current();
      const last = tokens.at(-1);
      if (last && last.kind === kind) last.text += piece;
      else tokens.push({ text: piece, kind });
    }
    return tokens;
  }
}

/** Cuts plain text into names and the rest, so that a name can be pointed at. */
function words(tokens: Token[]): Token[] {
  return tokens.flatMap((it) => {
    if (it.kind !== "" && it.kind !== "function") return [it];
    const parts = it.text.split(/([A-Za-z_$][\w$]*)/).filter(Boolean);
    return parts.map((text, n) => {
      if (!/^[A-Za-z_$]/.test(text)) return { text, kind: "" };
      const call = /^\s*\(/.test(parts[n + 1] ?? "");
      return { text, kind: call || it.kind === "function" ? "name function" : "name" };
    });
  });
}

/**
 * The expression that ends with the name at a place of a line: `e->note` for `note` in
 * `e->note[0]`.
 */
export function expressionAt(line: string, from: number, name: string): string {
  const before = line.slice(0, from);
  const chain = /((?:[A-Za-z_$][\w$]*(?:\[[^[\]]*\])?\s*(?:->|\.|::)\s*)+)$/.exec(before)?.[1] ?? "";
  return (chain + name).replaceAll(/\s+/g, "");
}
