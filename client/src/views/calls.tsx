// System calls: what was asked of the kernel?

import { useEffect, useState } from "preact/hooks";
import { Table, type Column } from "../parts/table";
import { grouped, placeText, placeTitle } from "../parts/text";
import type { SystemCall } from "../protocol/types";
import { useAnchor } from "../protocol/use_anchor";
import { useAnswer } from "../protocol/use_answer";
import { focus } from "../state/focus";
import { Field } from "./executions";
import type { ViewProperties } from "./registry";

const columns: Column<SystemCall>[] = [
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

/** The argument is the number of a descriptor: only calls about it. */
export function CallsView({ argument }: ViewProperties) {
  const now = focus.value;
  const [name, setName] = useState("");
  const [descriptor, setDescriptor] = useState(argument ?? "");
  useEffect(() => setDescriptor(argument ?? ""), [argument ?? ""]);
  const anchor = useAnchor();
  const only = {
    ...(name ? { name } : {}),
    // What is no number is for the server to refuse: it says why.
    ...(descriptor ? { descriptor: /^\d{1,9}$/.test(descriptor) ? Number(descriptor) : descriptor } : {}),
  };
  const at = anchor.at(now, JSON.stringify(only));
  const answer = useAnswer<SystemCall>(
    at ? { question: "calls", arguments: only, focus: { moment: at.moment }, window: { before: 200, after: 200 } } : null,
  );
  anchor.seen(answer);
  return (
    <div class="with-head">
      <div class="view-form">
        <Field label="Name" placeholder="such as write" value={name} change={setName} />
        <Field label="Descriptor" placeholder="such as 1" value={descriptor} change={setDescriptor} />
      </div>
      <Table
        name="calls"
        answer={answer}
        columns={columns}
        rowClass={(it) => (it.result?.startsWith("-1 ") ? "row-failed" : "")}
        empty={name || descriptor ? "No such system call was made." : "No system call was made."}
      />
    </div>
  );
}
