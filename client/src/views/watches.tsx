// Watches: expressions that are evaluated wherever the focus is.

import { useRef, useState } from "preact/hooks";
import { Loading } from "../parts/states";
import { TreeRow, treeKeys } from "../parts/tree";
import type { Value } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { focusKey, settled } from "../state/focus";
import { addWatch, setWatches, watches } from "../state/watches";
import { TreeHome, useChanged, useOpen } from "./locals";
import type { ViewProperties } from "./registry";

export function WatchesView(_: ViewProperties) {
  const all = watches();
  const [text, setText] = useState("");
  return (
    <div class="watches">
      <div class="tree" role="tree" aria-label="Watches" onKeyDown={treeKeys}>
        {all.map((it) => (
          <Watch key={it} expression={it} all={all} />
        ))}
        {all.length > 0 ? <TreeHome /> : null}
      </div>
      <form
        class="watch-form"
        onSubmit={(event) => {
          event.preventDefault();
          addWatch(text);
          setText("");
        }}
      >
        <input
          type="text"
          value={text}
          spellcheck={false}
          aria-label="Expression to watch"
          placeholder="Expression to watch: e->balance, buf[3], (long*)p, $rax"
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="button" disabled={!text.trim()}>
          Watch
        </button>
      </form>
    </div>
  );
}

function Watch({ expression, all }: { expression: string; all: string[] }) {
  const now = settled.value;
  const [editing, setEditing] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const [open, toggle] = useOpen(`watch ${expression}`);
  const answer = useAnswer<Value>(
    now ? { question: "evaluate", arguments: { expression }, focus: now } : null,
  );
  const complete = answer.end !== null && !answer.error;
  const changed = useChanged(answer.rows, expression, focusKey(now), complete);
  const remove = () => setWatches(all.filter((it) => it !== expression));
  if (editing) {
    const done = (text: string) => {
      setEditing(false);
      const clean = text.trim().replaceAll(";", ",");
      setWatches(all.map((it) => (it === expression ? clean : it)).filter(Boolean));
    };
    return (
      <input
        ref={input}
        class="tree-edit"
        type="text"
        defaultValue={expression}
        aria-label={`Edit ${expression}`}
        spellcheck={false}
        autoFocus
        onKeyDown={(event) => {
          if (event.key === "Enter") done(event.currentTarget.value);
          if (event.key === "Escape") setEditing(false);
          event.stopPropagation();
        }}
        onBlur={(event) => done(event.currentTarget.value)}
      />
    );
  }
  const value = answer.rows[0];
  const row: Value = answer.error
    ? { name: expression, path: "", text: "" }
    : { path: expression, ...value, name: expression };
  return (
    <>
      <Loading answer={answer} />
      <TreeRow
        value={row}
        level={0}
        open={open}
        toggle={toggle}
        changed={changed}
        onRename={() => setEditing(true)}
        remove={remove}
      />
      {answer.error ? (
        <div class="watch-error">
          {answer.error.what}
          {answer.error.try ? `. ${answer.error.try}` : ""}
        </div>
      ) : null}
    </>
  );
}
