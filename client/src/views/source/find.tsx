// Find in the text: all lines, though only few are in the page.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Icon } from "../../parts/icons";
import { findAsked } from "../../state/commands";

interface Properties {
  lines: string[];
  reveal(line: number): void;
  close(): void;
}

const MATCHES_MAX = 10_000;

export function Find({ lines, reveal, close }: Properties) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const found = useMemo(() => {
    const wanted = text.toLowerCase();
    const matches: number[] = [];
    if (!wanted) return matches;
    for (let n = 0; n < lines.length && matches.length < MATCHES_MAX; n++) {
      if (lines[n]?.toLowerCase().includes(wanted)) matches.push(n + 1);
    }
    return matches;
  }, [text, lines]);
  useEffect(() => {
    input.current?.focus();
    input.current?.select();
  }, [findAsked.value]);
  const to = (next: number) => {
    if (found.length === 0) return;
    const index = (next + found.length) % found.length;
    setAt(index);
    reveal(found[index] ?? 1);
  };
  useEffect(() => to(0), [found]);
  return (
    <div class="find" role="search">
      <input
        ref={input}
        type="text"
        aria-label="Find in this file"
        placeholder="Find in this file"
        value={text}
        spellcheck={false}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter") to(at + (event.shiftKey ? -1 : 1));
          else if (event.key === "Escape") close();
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <span class="dim" role="status">
        {text ? (found.length > 0 ? `${at + 1} of ${found.length} lines` : "not in this file") : ""}
      </span>
      <button type="button" class="icon-button" title="Close (Esc)" onClick={close}>
        <Icon name="close" />
      </button>
    </div>
  );
}
