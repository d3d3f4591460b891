// Signals: what interrupted the program, where it came from, what became of it.

import { Table, type Column } from "../parts/table";
import { grouped, placeText, placeTitle } from "../parts/text";
import type { Signal } from "../protocol/types";
import { useAnchor } from "../protocol/use_anchor";
import { useAnswer } from "../protocol/use_answer";
import { focus } from "../state/focus";

const columns: Column<Signal>[] = [
  { id: "moment", title: "Moment", width: "92px", number: true, cell: (it) => grouped(it.moment ?? "") },
  { id: "name", title: "Signal", width: "minmax(84px, 0.6fr)", cell: (it) => <b class="mono">{it.name}</b> },
  { id: "text", title: "Cause", width: "minmax(120px, 2fr)", cell: (it) => <span title={it.text}>{it.text}</span> },
  {
    id: "disposition",
    title: "What became of it",
    width: "minmax(110px, 1.2fr)",
    cell: (it) => <span title={placeTitle(it.handler) || it.disposition}>{it.disposition}</span>,
  },
  {
    id: "place",
    title: "In",
    width: "minmax(80px, 0.8fr)",
    cell: (it) => (
      <span title={placeTitle(it.place)} class={it.place?.own ? "own" : "dim"}>
        {placeText(it.place)}
      </span>
    ),
  },
];

export function SignalsView() {
  const anchor = useAnchor();
  const at = anchor.at(focus.value, "");
  const answer = useAnswer<Signal>(
    at ? { question: "signals", focus: { moment: at.moment }, window: { before: 200, after: 200 } } : null,
  );
  anchor.seen(answer);
  return (
    <Table
      name="signals"
      answer={answer}
      columns={columns}
      empty="No signal was delivered in the run."
    />
  );
}
