// Threads: who ran, and when? A click shows the same moment in that task.

import { Life } from "../parts/life";
import { Table, type Column } from "../parts/table";
import { grouped } from "../parts/text";
import { taskColour } from "../parts/tasks";
import type { Overview, Task } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { focus, moment } from "../state/focus";

export function ThreadsView() {
  const answer = useAnswer<Task>({ question: "tasks", window: { before: 0, after: 5000 } });
  const overview = useAnswer<Overview>({ question: "overview" });
  const total = Math.max(1, Number(overview.rows[0]?.instructions ?? 1));
  const now = moment.value;
  const depth = (task: Task): number => {
    let level = 0;
    for (let it: Task | undefined = task; it?.parent && level < 8; level++) {
      const parent: number = it.parent;
      it = answer.rows.find((row) => row.task === parent);
    }
    return level;
  };
  const columns: Column<Task>[] = [
    {
      id: "name",
      title: "Task",
      width: "minmax(120px, 1.2fr)",
      cell: (it) => (
        <span class="task-name" style={{ paddingLeft: `${depth(it) * 14}px` }}>
          <span class="task-dot" style={{ background: taskColour(it.task) }} />
          <span class="dim">{it.tid}</span> {it.name ?? "?"}
        </span>
      ),
    },
    {
      id: "life",
      title: "Life",
      width: "minmax(100px, 2fr)",
      cell: (it) => (
        <Life from={Number(it.begin)} to={Number(it.end)} now={now} total={total} colour={taskColour(it.task)} />
      ),
    },
    { id: "exit", title: "End", width: "minmax(90px, 1fr)", cell: (it) => it.exit ?? <span class="dim">at {grouped(it.end)}</span> },
  ];
  return (
    <Table
      name="threads"
      answer={answer}
      columns={columns}
      timeless
      empty="No task is known."
      current={(it) => it.task === focus.value?.task}
      target={(it) => {
        const at = Math.max(Number(it.begin), Math.min(now, Number(it.end)));
        return { moment: String(at), task: it.task, frame: null };
      }}
    />
  );
}
