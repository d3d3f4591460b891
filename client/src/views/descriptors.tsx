// Descriptors: which files, pipes and sockets were open, and when? A click goes to where one was
// opened; its number leads to the system calls about it.

import { useMemo } from "preact/hooks";
import { Life } from "../parts/life";
import { Table, type Column } from "../parts/table";
import { taskColour } from "../parts/tasks";
import { grouped } from "../parts/text";
import type { Descriptor, Overview } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { moment } from "../state/focus";
import { show } from "../state/layout";

const ROWS = 5000;

/** From when to when it was open; to the end of the run if it was never closed. */
const span = (it: Descriptor, total: number): [number, number] => [Number(it.opened ?? 0), Number(it.closed ?? total)];

const bytes = (count: string | undefined) => (count && count !== "0" ? grouped(count) : "");

export function DescriptorsView() {
  const overview = useAnswer<Overview>({ question: "overview" });
  const answer = useAnswer<Descriptor>({ question: "descriptors", window: { before: 0, after: ROWS } });
  const total = Math.max(1, Number(overview.rows[0]?.instructions ?? 1));
  const now = moment.value;
  const columns = useMemo(() => columnsOf(now, total), [now, total]);
  const open = (it: Descriptor) => {
    const [from, to] = span(it, total);
    return from <= now && now < to;
  };
  return (
    <Table
      name="descriptors"
      answer={answer}
      columns={columns}
      timeless
      rowClass={(it) => (open(it) ? "" : "future")}
      empty="Nothing was open."
    />
  );
}

function columnsOf(now: number, total: number): Column<Descriptor>[] {
  return [
    {
      id: "path",
      title: "What",
      width: "minmax(120px, 2.4fr)",
      cell: (it) => (
        <span class={it.path ? "mono" : "dim"} title={it.path}>
          {it.path ?? it.kind ?? "not known"}
        </span>
      ),
    },
    {
      id: "descriptor",
      title: "Number",
      width: "62px",
      number: true,
      cell: (it) => (
        <button
          type="button"
          class="text-button mono"
          title={`System calls about descriptor ${it.descriptor}`}
          onClick={(event) => {
            event.preventDefault();
            show("calls", String(it.descriptor));
          }}
        >
          {it.descriptor}
        </button>
      ),
    },
    { id: "mode", title: "Mode", width: "78px", cell: (it) => it.mode },
    {
      id: "by",
      title: "Opened by",
      width: "minmax(84px, 0.8fr)",
      cell: (it) => (
        <span title={it.opened === null ? "Older than the recording" : `At ${grouped(it.opened)}`}>
          <span class="task-dot" style={{ background: taskColour(it.task ?? 1) }} title={`Task ${it.task}`} /> {it.by}
        </span>
      ),
    },
    {
      id: "life",
      title: "Open",
      width: "minmax(80px, 1.4fr)",
      cell: (it) => {
        const [from, to] = span(it, total);
        return <Life from={from} to={to} now={now} total={total} colour={taskColour(it.task ?? 1)} />;
      },
    },
    { id: "read", title: "Read", width: "64px", number: true, cell: (it) => bytes(it.read) },
    { id: "written", title: "Written", width: "68px", number: true, cell: (it) => bytes(it.written) },
  ];
}
