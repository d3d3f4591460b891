// Executions: when did this line, function, address run? With a condition, prints, and groups.

import { useEffect, useMemo, useState } from "preact/hooks";
import { Failed } from "../parts/states";
import { Strip } from "../parts/strip";
import { Table, type Column } from "../parts/table";
import { fileName, grouped, placeText, placeTitle, plural, shortName } from "../parts/text";
import { Value } from "../parts/value";
import type { Execution, Focus } from "../protocol/types";
import { useAnchor } from "../protocol/use_anchor";
import { useAnswer } from "../protocol/use_answer";
import { here, settled } from "../state/focus";
import { show } from "../state/layout";
import type { ViewProperties } from "./registry";

type Scope = "run" | "call" | "task";
const SCOPES: [Scope, string][] = [
  ["run", "in the run"],
  ["call", "in this call"],
  ["task", "in this task"],
];

interface Aim {
  what: Record<string, unknown>;
  title: string;
  scope: Scope;
}

/** `line:FILE:N[:call]`, `function:NAME`, `address:0x..`; or the function of the focus. */
function aimOf(argument: string | undefined, name: string | undefined): Aim | null {
  const line = /^line:(.+):(\d+)(:call)?$/.exec(argument ?? "");
  if (line) {
    const [, file = "", number = "", call] = line;
    return {
      what: { file, line: Number(number) },
      title: `${fileName(file)}:${number}`,
      scope: call ? "call" : "run",
    };
  }
  const other = /^(function|address):(.+)$/.exec(argument ?? "");
  if (other?.[1] && other[2]) {
    return { what: { [other[1]]: other[2] }, title: shortName(other[2]), scope: "run" };
  }
  return name ? { what: { function: name }, title: shortName(name), scope: "run" } : null;
}

interface Group {
  value: string;
  count: number | string;
  focus?: { moment?: string };
}

export function ExecutionsView({ argument }: ViewProperties) {
  const place = here.value.place;
  const aim = aimOf(argument, place?.full ?? place?.function);
  const key = JSON.stringify(aim?.what ?? null) + (argument ?? "");
  const [condition, setCondition] = useState("");
  const [print, setPrint] = useState("");
  const [group, setGroup] = useState("");
  const [scope, setScope] = useState<Scope>(aim?.scope ?? "run");
  useEffect(() => {
    setScope(aim?.scope ?? "run");
    setCondition("");
  }, [argument ?? ""]);
  const now = settled.value;
  const prints = useMemo(() => print.split(",").map((it) => it.trim()).filter(Boolean), [print]);
  // In the whole run, the frame means nothing: answers stay the same when it moves.
  const at: Focus | null = now && {
    moment: now.moment,
    ...(now.task === undefined ? {} : { task: now.task }),
    ...(scope === "call" && now.frame ? { frame: now.frame } : {}),
  };
  const shared = {
    ...(aim?.what ?? {}),
    ...(scope === "run" ? {} : { scope }),
    ...(condition ? { condition } : {}),
  };
  const list = JSON.stringify([shared, prints, scope === "run" ? null : [at?.frame, at?.task]]);
  const anchor = useAnchor();
  const from = anchor.at(at, list);
  const answer = useAnswer<Execution>(
    aim && from
      ? {
          question: "executions",
          arguments: { ...shared, ...(prints.length > 0 ? { print: prints } : {}) },
          focus: from,
          window: { before: 200, after: 200 },
        }
      : null,
  );
  anchor.seen(answer);
  const groups = useAnswer<Group>(
    aim && at && group
      ? {
          question: "groups",
          arguments: { ...shared, group, ...(prints.length > 0 ? { print: prints } : {}) },
          focus: from ?? at,
          window: { before: 0, after: 200 },
        }
      : null,
  );
  const columns = useMemo(() => columnsOf(prints, aim?.what.line !== undefined), [print, key]);
  if (!aim) return <div class="empty">Pick a line or a function: click a line number, or search for a name.</div>;
  const failed = answer.rows.filter((it) => it.failed);
  const end = answer.end;
  const matched = end?.matched ? grouped(end.matched) : grouped(answer.rows.length);
  return (
    <div class="with-head executions">
      <div class="view-head">
        <span class="view-target" title={key}>
          {aim.title}
        </span>
        <span class="dim" role="status">
          {end && !end.error ? `${end.exact === false ? "at least " : ""}${matched} ${matched === "1" ? "execution" : "executions"}` : ""}
        </span>
        <span class="pane-space" />
        <select
          aria-label="Where"
          value={scope}
          onChange={(event) => setScope(event.currentTarget.value as Scope)}
        >
          {SCOPES.map(([id, title]) => (
            <option key={id} value={id}>
              {title}
            </option>
          ))}
        </select>
        <select aria-label="Group by" value={group} onChange={(event) => setGroup(event.currentTarget.value)}>
          <option value="">no groups</option>
          {["print", "task", "caller", "process", "left"].map((it) => (
            <option key={it} value={it}>
              by {it === "left" ? "result" : it}
            </option>
          ))}
        </select>
        {argument ? (
          <button type="button" class="text-button" onClick={() => show("executions", null)}>
            Follow the focus
          </button>
        ) : null}
      </div>
      <div class="view-form">
        <Field label="Condition" placeholder="such as i >= 16" value={condition} change={setCondition} />
        <Field label="Print" placeholder="such as i, text[i]" value={print} change={setPrint} />
      </div>
      {failed.length > 0 ? (
        <div class="view-note" role="alert">
          The condition could not be evaluated on {plural(failed.length, "row")}: {failed[0]?.failed}
        </div>
      ) : null}
      <Strip what={shared} at={from} />
      {group ? <Groups answer={groups} choose={(it) => group === "print" && prints[0] && setCondition(`${prints[0]} == ${it}`)} /> : null}
      <Table
        name="executions"
        answer={answer}
        columns={columns}
        rowClass={(it) => (it.failed ? "row-failed" : "")}
        empty={
          <>
            <p>
              {aim.title} did not run
              {scope === "run" ? " in the run" : scope === "call" ? " in this call" : " in this task"}
              {condition ? " with that condition" : ""}.
            </p>
            {scope !== "run" ? (
              <button type="button" class="text-button" onClick={() => setScope("run")}>
                Look in the whole run
              </button>
            ) : null}
            {condition ? (
              <button type="button" class="text-button" onClick={() => setCondition("")}>
                Without the condition
              </button>
            ) : null}
          </>
        }
      />
    </div>
  );
}

/** A text field that asks when Enter is pressed or it is left. */
export function Field({
  label,
  placeholder,
  value,
  change,
}: {
  label: string;
  placeholder: string;
  value: string;
  change(text: string): void;
}) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="text"
        value={text}
        placeholder={placeholder}
        spellcheck={false}
        onInput={(event) => setText(event.currentTarget.value)}
        onBlur={() => text !== value && change(text.trim())}
        onKeyDown={(event) => {
          if (event.key === "Enter") change(text.trim());
        }}
      />
    </label>
  );
}

function Groups({ answer, choose }: { answer: ReturnType<typeof useAnswer<Group>>; choose(value: string): void }) {
  if (answer.error) return <Failed answer={answer} />;
  return (
    <div class="groups">
      {answer.rows.map((it) => (
        <button type="button" class="group-chip" key={it.value} onClick={() => choose(it.value)}>
          {it.value} <b>{grouped(it.count)}</b>
        </button>
      ))}
    </div>
  );
}

function columnsOf(prints: string[], line: boolean): Column<Execution>[] {
  const columns: Column<Execution>[] = [
    { id: "moment", title: "Moment", width: "88px", number: true, cell: (it) => grouped(it.moment ?? "") },
    ...prints.map(
      (title, n): Column<Execution> => ({
        id: `print${n}`,
        title,
        width: "minmax(70px, 1fr)",
        cell: (it) => {
          const value = it.prints?.[n];
          if (!value) return null;
          return value.failed ? <span class="badge">{value.failed}</span> : <Value value={value} at={there(it)} />;
        },
      }),
    ),
  ];
  if (!line) {
    columns.push({
      id: "arguments",
      title: "Arguments",
      width: "minmax(120px, 3fr)",
      cell: (it) => (
        <span class="stack-arguments">
          {(it.arguments ?? []).map((value, n) => (
            <span key={value.name ?? n}>
              {n > 0 ? ", " : ""}
              <Value value={value} name brief at={there(it)} />
            </span>
          ))}
        </span>
      ),
    });
    columns.push({
      id: "result",
      title: "Result",
      width: "minmax(80px, 1fr)",
      cell: (it) => {
        if (it.result) return <Value value={it.result} brief />;
        if (it.left && it.left !== "returned") {
          return <span class="badge badge-warn">{it.left === "running" ? "still running" : `left by ${it.left}`}</span>;
        }
        return null;
      },
    });
  }
  columns.push({
    id: "place",
    title: line ? "In" : "From",
    width: "minmax(90px, 1fr)",
    cell: (it) => (
      <span class="dim" title={placeTitle(it.place)}>
        {placeText(it.place)}
      </span>
    ),
  });
  return columns;
}

function there(it: Execution): Focus | undefined {
  const moment = it.focus?.moment ?? it.moment;
  if (!moment) return undefined;
  const task = it.focus?.task ?? it.task;
  const frame = it.focus?.frame ?? it.frame;
  return { moment, ...(task === undefined ? {} : { task }), ...(frame ? { frame } : {}) };
}
