// Memory: bytes, sixteen a row, from the data or any address.

import { useEffect, useState } from "preact/hooks";
import { Empty, States } from "../parts/states";
import { pick } from "../parts/value";
import type { Value } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { data, settled } from "../state/focus";
import { show } from "../state/layout";
import type { ViewProperties } from "./registry";

interface Bytes {
  address: string;
  bytes: string;
}

const ROW = 16n;
const ROWS = 32;

function parseAddress(text: string): bigint | null {
  try {
    return /^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text.trim()) ? BigInt(text.trim()) : null;
  } catch {
    return null;
  }
}

export function MemoryView({ argument }: ViewProperties) {
  const now = settled.value;
  const picked = data.value;
  const wanted = argument ?? "";
  const direct = parseAddress(wanted);
  const raw = /^@(0x[0-9a-f]+):(\d+)$/i.exec(picked?.text ?? "");
  const expression = direct !== null ? "" : wanted || (raw ? "" : (picked?.text ?? ""));
  const evaluated = useAnswer<Value>(
    expression && now
      ? { question: "evaluate", arguments: { expression }, focus: wanted ? now : (picked?.at ?? now) }
      : null,
  );
  const value = evaluated.rows[0];
  let start: bigint | null = direct;
  let length = 8n;
  if (start === null && raw && !wanted) {
    start = BigInt(raw[1] ?? "0");
    length = BigInt(raw[2] ?? "8");
  } else if (start === null && expression && value) {
    // A pointer's target is what people mean; else where the value lies.
    const pointer = /\*\s*$/.test(value.type ?? "") ? /0x[0-9a-f]+/i.exec(value.text ?? "")?.[0] : undefined;
    start = parseAddress(pointer ?? value.address ?? "");
    length = BigInt(pointer ? 8 : (value.size ?? 8));
  }
  const [shift, setShift] = useState(0n);
  useEffect(() => setShift(0n), [start?.toString()]);
  const base = start === null ? null : (start / ROW) * ROW - ROW * 2n + shift;
  const from = base !== null && base < 0n ? 0n : base;
  const answer = useAnswer<Bytes>(
    from !== null && now
      ? {
          question: "memory",
          arguments: { address: `0x${from.toString(16)}`, length: ROWS * Number(ROW) },
          focus: now,
          window: { before: 0, after: ROWS },
        }
      : null,
  );
  const [text, setText] = useState(wanted);
  useEffect(() => setText(wanted), [wanted]);
  const go = (by: number) => setShift(shift + BigInt(by * ROWS) * ROW);
  const keys = (event: KeyboardEvent) => {
    const by = { PageDown: 1, PageUp: -1, ArrowDown: 1 / ROWS, ArrowUp: -1 / ROWS }[event.key];
    if (!by || event.altKey) return;
    event.preventDefault();
    go(by);
  };
  return (
    <div class="memory">
      <form
        class="view-form"
        onSubmit={(event) => {
          event.preventDefault();
          show("memory", text.trim() || null);
        }}
      >
        <input
          type="text"
          value={text}
          spellcheck={false}
          aria-label="Address or expression"
          placeholder={picked ? picked.text : "Address or expression: 0x7ffe1000, e->note, $rsp"}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="button" class="button" onClick={() => go(-1)}>
          Earlier
        </button>
        <button type="button" class="button" onClick={() => go(1)}>
          Later
        </button>
      </form>
      {from === null ? (
        evaluated.error ? (
          <Empty>
            {evaluated.error.what}
            {evaluated.error.try ? `. ${evaluated.error.try}` : ""}
          </Empty>
        ) : (
          <Empty>Click a value, or give an address or an expression.</Empty>
        )
      ) : (
        <States answer={answer} empty="Nothing is mapped there.">
          <div class="hex" role="grid" aria-label="Memory" tabIndex={0} data-home onKeyDown={keys}>
            {answer.rows.map((row) => (
              <HexRow key={row.address} row={row} start={start ?? 0n} length={length} />
            ))}
          </div>
        </States>
      )}
    </div>
  );
}

function HexRow({ row, start, length }: { row: Bytes; start: bigint; length: bigint }) {
  const bytes = row.bytes.replaceAll(" ", "").match(/../g) ?? [];
  const first = BigInt(row.address);
  return (
    <div class="hex-row" role="row">
      <span class="dim">{row.address}</span>
      <span class="hex-bytes">
        {bytes.map((it, n) => {
          const address = first + BigInt(n);
          const inside = address >= start && address < start + length;
          return (
            <button
              type="button"
              tabIndex={-1}
              key={n}
              class={inside ? "hex-byte inside" : it === "00" ? "hex-byte zero" : "hex-byte"}
              title={`0x${address.toString(16)}: click asks where it came from`}
              onClick={() => pick(`@0x${address.toString(16)}:1`)}
            >
              {it}
            </button>
          );
        })}
      </span>
      <span class="hex-text">
        {bytes
          .map((it) => {
            const code = Number.parseInt(it, 16);
            return code >= 32 && code < 127 ? String.fromCharCode(code) : "·";
          })
          .join("")}
      </span>
    </div>
  );
}
