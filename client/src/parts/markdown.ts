// A little Markdown, as data: what is not understood is text, and nothing is ever HTML.

export type Inline =
  | { kind: "text" | "code" | "strong" | "emphasis"; text: string }
  /** Only to another focus in this page. */
  | { kind: "link"; text: string; to: string };

export type Block =
  | { kind: "paragraph" | "heading"; parts: Inline[] }
  | { kind: "list"; items: Inline[][] }
  | { kind: "code"; text: string };

/** No alternative looks past a character that ends it: long texts cost no more than they are long. */
const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^[\]]+)\]\((#m=[^()\s]+)\)/g;

export function inlines(text: string): Inline[] {
  const parts: Inline[] = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, emphasis, label, to] = found;
    if (found.index > at) parts.push({ kind: "text", text: text.slice(at, found.index) });
    if (code !== undefined) parts.push({ kind: "code", text: code });
    else if (strong !== undefined) parts.push({ kind: "strong", text: strong });
    else if (emphasis !== undefined) parts.push({ kind: "emphasis", text: emphasis });
    else if (label !== undefined && to !== undefined) parts.push({ kind: "link", text: label, to });
    at = found.index + whole.length;
  }
  if (at < text.length) parts.push({ kind: "text", text: text.slice(at) });
  return parts;
}

const HEADING = /^#{1,6}\s+(.*)$/;
const ITEM = /^\s*[-*]\s+(.*)$/;
const FENCE = "```";

export function blocks(text: string): Block[] {
  const all: Block[] = [];
  let lines: string[] = [];
  const flush = () => {
    if (lines.length > 0) all.push({ kind: "paragraph", parts: inlines(lines.join("\n")) });
    lines = [];
  };
  let fenced: string[] | null = null;
  for (const line of text.split("\n")) {
    if (line.startsWith(FENCE)) {
      flush();
      if (fenced) all.push({ kind: "code", text: fenced.join("\n") });
      fenced = fenced ? null : [];
      continue;
    }
    if (fenced) {
      fenced.push(line);
      continue;
    }
    const heading = HEADING.exec(line)?.[1];
    const item = ITEM.exec(line)?.[1];
    if (heading !== undefined) {
      flush();
      all.push({ kind: "heading", parts: inlines(heading) });
    } else if (item !== undefined) {
      flush();
      const last = all.at(-1);
      if (last?.kind === "list") last.items.push(inlines(item));
      else all.push({ kind: "list", items: [inlines(item)] });
    } else if (line.trim() === "") flush();
    else lines.push(line);
  }
  flush();
  // A block that does not end is one to the end.
  if (fenced) all.push({ kind: "code", text: fenced.join("\n") });
  return all;
}
