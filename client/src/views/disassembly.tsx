// Disassembly: this call's instructions as they ran, with what each changed.

import { Table, type Column } from "../parts/table";
import { placeTitle } from "../parts/text";
import type { Row } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { settled } from "../state/focus";

interface Instruction extends Row {
  address: string;
  bytes?: string;
  text: string;
  changes?: { name: string; old?: string; new?: string }[];
  current?: boolean;
}

const EACH_SIDE = 200;

const columns: Column<Instruction>[] = [
  { id: "address", title: "Address", width: "116px", cell: (it) => <span title={it.bytes}>{it.address}</span> },
  { id: "text", title: "Instruction", width: "minmax(180px, 2fr)", cell: (it) => <span class="mono">{it.text}</span> },
  {
    id: "changes",
    title: "Changed",
    width: "minmax(120px, 2fr)",
    cell: (it) =>
      it.changes?.map((change) => (
        <span key={change.name} class="change" title={change.old ? `before: ${change.old}` : undefined}>
          <span class="dim">{change.name}</span> <span class="number">{change.new ?? ""}</span>
        </span>
      )),
  },
  {
    id: "place",
    title: "Line",
    width: "56px",
    number: true,
    cell: (it) => (
      <span class="dim" title={placeTitle(it.place)}>
        {it.place?.line ?? ""}
      </span>
    ),
  },
];

export function DisassemblyView() {
  const now = settled.value;
  const answer = useAnswer<Instruction>(
    now
      ? {
          question: "instructions",
          arguments: { count: EACH_SIDE },
          focus: now,
          window: { before: EACH_SIDE, after: EACH_SIDE },
        }
      : null,
  );
  return (
    <div class="mono-table">
      <Table name="disassembly" answer={answer} columns={columns} empty="No instruction ran here." />
    </div>
  );
}
