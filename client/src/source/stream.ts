// The line of text that a mode of CodeMirror reads, with the methods that modes use.

export class Stream {
  pos = 0;
  start = 0;
  readonly indentUnit = 2;

  constructor(
    readonly string: string,
    readonly tabSize = 8,
  ) {}

  eol(): boolean {
    return this.pos >= this.string.length;
  }
  sol(): boolean {
    return this.pos === 0;
  }
  peek(): string | undefined {
    return this.string[this.pos];
  }
  next(): string | undefined {
    return this.eol() ? undefined : this.string[this.pos++];
  }
  eat(match: string | RegExp | ((c: string) => boolean)): string | undefined {
    const c = this.string[this.pos];
    if (c === undefined) return undefined;
    const fits =
      typeof match === "string" ? c === match : match instanceof RegExp ? match.test(c) : match(c);
    if (!fits) return undefined;
    this.pos++;
    return c;
  }
  eatWhile(match: string | RegExp | ((c: string) => boolean)): boolean {
    const from = this.pos;
    while (this.eat(match) !== undefined);
    return this.pos > from;
  }
  eatSpace(): boolean {
    return this.eatWhile(/[\s\u00a0]/);
  }
  skipToEnd(): void {
    this.pos = this.string.length;
  }
  skipTo(c: string): boolean {
    const found = this.string.indexOf(c, this.pos);
    if (found < 0) return false;
    this.pos = found;
    return true;
  }
  backUp(n: number): void {
    this.pos -= n;
  }
  column(): number {
    return this.start;
  }
  indentation(): number {
    return /^\s*/.exec(this.string)?.[0].length ?? 0;
  }
  match(pattern: string | RegExp, consume = true, insensitive = false): boolean | RegExpMatchArray | null {
    if (typeof pattern === "string") {
      const here = this.string.slice(this.pos, this.pos + pattern.length);
      const same = insensitive ? here.toLowerCase() === pattern.toLowerCase() : here === pattern;
      if (!same) return null;
      if (consume) this.pos += pattern.length;
      return true;
    }
    const found = this.string.slice(this.pos).match(pattern);
    if (!found || (found.index ?? 0) > 0) return null;
    if (consume) this.pos += found[0].length;
    return found;
  }
  current(): string {
    return this.string.slice(this.start, this.pos);
  }
  lookAhead(): undefined {
    return undefined;
  }
}

export interface Mode {
  startState?(indent: number): unknown;
  copyState?(state: unknown): unknown;
  token(stream: Stream, state: unknown): string | null;
  blankLine?(state: unknown, indent: number): void;
}
