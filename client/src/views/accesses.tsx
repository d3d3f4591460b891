// Accesses: who wrote, who read this place, ever?

import { useState } from "preact/hooks";
import { Coloured } from "../parts/coloured";
import { Table, type Column } from "../parts/table";
import { grouped, placeText, placeTitle, valueText } from "../parts/text";
import type { Access } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { data, go } from "../state/focus";
import { About } from "./about";
import { Field } from "./executions";

export function placeArguments(text: string): Record<string, unknown> {
  const raw = /^@(0x[0-9a-f]+):(\d+)$/i.exec(text);
  if (raw) return { address: raw[1], length: Number(raw[2]) };
  return { expression: text };
}

const shownValue = (it: Access["old"]) => {
  return (
    <span class="value">
      <Coloured text={valueText(it)} />
    </span>
  );
};

const columns: Column<Access>[] = [
  { id: "moment", title: "Moment", width: "92px", number: true, cell: (it) => grouped(it.moment ?? "") },
  {
    id: "place",
    title: "Place",
    width: "minmax(110px, 1.4fr)",
    cell: (it) => (
      <span title={placeTitle(it.place)} class={it.place?.own ? "own" : "dim"}>
        {placeText(it.place)}
      </span>
    ),
  },
  { id: "old", title: "Before", width: "minmax(70px, 1fr)", cell: (it) => shownValue(it.old) },
  { id: "new", title: "After", width: "minmax(70px, 1fr)", cell: (it) => shownValue(it.new) },
  { id: "by", title: "By", width: "74px", cell: (it) => <span class="dim">{it.by === "instruction" ? "" : it.by}</span> },
];

export function AccessesView() {
  const picked = data.value;
  const [kind, setKind] = useState<"writes" | "reads">("writes");
  const [condition, setCondition] = useState("");
  const answer = useAnswer<Access>(
    picked
      ? {
          question: kind,
          arguments: {
            ...placeArguments(picked.text),
            ...(condition ? { condition } : {}),
          },
          focus: picked.at,
          window: { before: 200, after: 200 },
        }
      : null,
  );
  const heap = useAnswer<{ kind: string; moment?: string; size?: number; place?: Access["place"] } & Access>(
    picked
      ? { question: "block", arguments: blockArguments(picked.text), focus: picked.at, window: { before: 50, after: 50 } }
      : null,
  );
  if (!picked) {
    return <div class="empty">Click a value, in Locals, Stack or Source: this lists who wrote and read it.</div>;
  }
  return (
    <div class="with-head">
      <About data={picked} />
      <div class="view-form">
        <div class="choice" role="radiogroup" aria-label="Which">
          {(["writes", "reads"] as const).map((it) => (
            <button
              type="button"
              role="radio"
              key={it}
              aria-checked={kind === it}
              class={kind === it ? "chosen" : ""}
              onClick={() => setKind(it)}
            >
              {it === "writes" ? "Writes" : "Reads"}
            </button>
          ))}
        </div>
        <Field label="Condition" placeholder="such as new - old != 1" value={condition} change={setCondition} />
      </div>
      {heap.rows.length > 0 && !heap.error ? (
        <div class="block-life">
          <span class="dim">Heap block:</span>
          {heap.rows.map((it, n) => (
            <button
              type="button"
              key={n}
              class={`life-step life-${it.kind}`}
              title={placeTitle(it.place)}
              onClick={() => go(it.focus ?? { moment: it.moment ?? "0" })}
            >
              {it.kind}
              {it.size ? ` ${grouped(it.size)} bytes` : ""} <span class="dim">{placeText(it.place)}</span>
            </button>
          ))}
        </div>
      ) : null}
      <Table
        name="accesses"
        answer={answer}
        columns={columns}
        empty={`${kind === "writes" ? "Nobody wrote" : "Nobody read"} ${picked.text}${condition ? " with that condition" : " in the run"}.`}
      />
    </div>
  );
}

function blockArguments(text: string): Record<string, unknown> {
  const raw = /^@(0x[0-9a-f]+):/i.exec(text);
  return raw ? { address: raw[1] } : { expression: text };
}
