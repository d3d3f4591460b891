// Text of a user with a little Markdown.

import { useMemo } from "preact/hooks";
import { parse } from "../state/url";
import { Link } from "./link";
import { blocks, type Block, type Inline } from "./markdown";

export function Marked({ text }: { text: string }) {
  const all = useMemo(() => blocks(text), [text]);
  return (
    <>
      {all.map((it, n) => (
        <Part key={n} block={it} />
      ))}
    </>
  );
}

function Part({ block }: { block: Block }) {
  switch (block.kind) {
    case "heading":
      return (
        <h4>
          <Line parts={block.parts} />
        </h4>
      );
    case "paragraph":
      return (
        <p>
          <Line parts={block.parts} />
        </p>
      );
    case "list":
      return (
        <ul>
          {block.items.map((it, n) => (
            <li key={n}>
              <Line parts={it} />
            </li>
          ))}
        </ul>
      );
    case "code":
      return (
        <pre>
          <code>{block.text}</code>
        </pre>
      );
  }
}

function Line({ parts }: { parts: Inline[] }) {
  return (
    <>
      {parts.map((it, n) => {
        if (it.kind === "code") return <code key={n}>{it.text}</code>;
        if (it.kind === "strong") return <b key={n}>{it.text}</b>;
        if (it.kind === "emphasis") return <em key={n}>{it.text}</em>;
        if (it.kind === "link") {
          // Only the focus is taken: a note leads somewhere, and rearranges nothing.
          const there = parse(it.to, () => false).whole?.focus;
          return (
            <Link key={n} to={there ? { ...there, frame: there.frame ?? null } : null}>
              {it.text}
            </Link>
          );
        }
        return it.text;
      })}
    </>
  );
}
