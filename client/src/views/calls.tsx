// System calls: what was asked of the kernel?

import { useState } from "preact/hooks";
import { Table, type Column } from "../parts/table";
import { grouped, placeText, placeTitle } from "../parts/text";
import type { Row } from "../protocol/types";
import { useAnchor } from "../protocol/use_anchor";
import { useAnswer } from "../protocol/use_answer";
import { focus } from "../state/focus";

interface Call extends Row {
  name: string;
  arguments?: string;
  result?: string;
}

const columns: Column<Call>[] = [
  { id: "moment", title: "Moment", width: "92px", number: true, cell: (it) => grouped(it.moment ?? "") },
  { id: "name", title: "Call", width: "minmax(90px, 0.8fr)", cell: (it) => <b class="mono">{it.name}</b> },
  { id: "arguments", title: "Arguments", width: "minmax(140px, 3fr)", cell: (it) => <span class="mono" title={it.arguments}>{it.arguments}</span> },
  { id: "result", title: "Result", width: "minmax(80px, 1fr)", cell: (it) => <span class="mono">{it.result}</span> },
  {
    id: "place",
    title: "From",
    width: "minmax(90px, 1fr)",
    cell: (it) => (
      <span class="dim" title={placeTitle(it.place)}>
        {placeText(it.place)}
      </span>
    ),
  },
];

export function CallsView() {
  const now = focus.value;
  const [name, setName] = useState("");
  const anchor = useAnchor();
  const at = anchor.at(now, name.trim());
  const answer = useAnswer<Call>(
    at
      ? {
          question: "calls",
          arguments: name.trim() ? { name: name.trim() } : {},
          focus: { moment: at.moment },
          window: { before: 200, after: 200 },
        }
      : null,
  );
  anchor.seen(answer);
  return (
    <div class="with-head">
      <form class="view-form" onSubmit={(event) => event.preventDefault()}>
        <input
          type="text"
          value={name}
          spellcheck={false}
          aria-label="Name of the call"
          placeholder="Only calls of this name: write, mmap"
          onChange={(event) => setName(event.currentTarget.value)}
        />
      </form>
      <Table
        name="calls"
        answer={answer}
        columns={columns}
        empty={name ? `${name} was never called.` : "No system call was made."}
      />
    </div>
  );
}
