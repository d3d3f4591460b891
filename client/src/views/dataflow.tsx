// Dataflow, the story: from now down into the past, hop by hop. Bytes of different origin branch,
// copies in a row fold, another task or process is a bridge.

import { useState } from "preact/hooks";
import { Coloured } from "../parts/coloured";
import { Icon } from "../parts/icons";
import { Link } from "../parts/link";
import { copy } from "../parts/menu";
import { States } from "../parts/states";
import { taskColour } from "../parts/tasks";
import { grouped, placeText, placeTitle, plural, valueText } from "../parts/text";
import type { Hop } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { data, focus, go } from "../state/focus";
import { About } from "./about";
import { placeArguments } from "./accesses";

const HOPS = 200;
/** So many copies in a row become one row. */
const FOLD = 3;

const VERBS: Record<string, string> = {
  stored: "stored",
  copied: "copied",
  passed: "passed",
  kernel: "from the kernel",
  thread: "from another thread",
  process: "from another process",
  computed: "computed",
  source: "begins here",
};

interface Step {
  hops: Hop[];
}

/** Rows about the same bytes; several copies in a row in one step. */
function steps(hops: Hop[]): Step[] {
  const all: Step[] = [];
  for (let at = 0; at < hops.length; ) {
    let end = at;
    const folds = (it: Hop | undefined) => it?.kind === "copied" && !it.warning && it.task === hops[at]?.task;
    while (folds(hops[end])) end++;
    if (end - at >= FOLD) {
      all.push({ hops: hops.slice(at, end) });
      at = end;
    } else {
      all.push({ hops: [hops[at] as Hop] });
      at++;
    }
  }
  return all;
}

const bytesText = (bytes: [number, number] | undefined) => {
  if (!bytes) return "";
  const [from, to] = bytes;
  return to - from <= 1 ? `byte ${from}` : `bytes ${from}–${to - 1}`;
};

interface Branch {
  bytes: [number, number] | undefined;
  /** How many branches it is a part of. */
  level: number;
  hops: Hop[];
}

/** The story goes through one part of the value after the other; a part of a part is deeper. */
function branches(rows: Hop[]): Branch[] {
  const all: Branch[] = [];
  const around: [number, number][] = [];
  for (const row of rows) {
    const last = all.at(-1);
    const { bytes } = row;
    if (last && (!bytes || (last.bytes && last.bytes[0] === bytes[0] && last.bytes[1] === bytes[1]))) {
      last.hops.push(row);
      continue;
    }
    if (bytes) {
      const inside = (it: [number, number]) => it[0] <= bytes[0] && bytes[1] <= it[1];
      const same = (it: [number, number]) => it[0] === bytes[0] && it[1] === bytes[1];
      while (around.length > 0 && (!inside(around.at(-1)!) || same(around.at(-1)!))) around.pop();
    }
    all.push({ bytes, level: around.length, hops: [row] });
    if (bytes) around.push(bytes);
  }
  return all;
}

/** Where the user's own code was: a copy by the system's is told by who asked for it. */
const ownPlace = (hop: Hop) => hop.own ?? hop.place;

/** `memcpy` of `__memcpy_avx_unaligned_erms`: libraries choose one for the processor. */
const plainName = (name: string) =>
  name.replace(/_(avx|sse|evex|erms|ssse|unaligned)\w*$/, "").replace(/^_+/, "") || name;

/** What a copy was done by, for one line about many. */
const copier = (hop: Hop) => plainName(hop.called ?? hop.place?.function ?? "?");

function questionOf(text: string): Record<string, unknown> {
  const register = /^\$(\w+)$/.exec(text);
  return register ? { register: register[1] } : placeArguments(text);
}

export function DataflowView() {
  const picked = data.value;
  const answer = useAnswer<Hop>(
    picked
      ? {
          question: "origin",
          arguments: questionOf(picked.text),
          focus: picked.at,
          window: { before: HOPS, after: HOPS },
        }
      : null,
  );
  if (!picked) {
    return (
      <div class="empty">
        <p>Click a value, in Locals, Stack or Source: this tells where it came from.</p>
        <p class="dim">Each step is a line of the program that stored, copied or computed it.</p>
      </div>
    );
  }
  const all = branches(answer.rows);
  const split = all.length > 1;
  return (
    <div class="with-head">
      <About data={picked} />
      <States answer={answer} empty={`Nothing is known about where ${picked.text} came from.`}>
        <div class="story" role="list" aria-label="Dataflow" tabIndex={0} data-home onKeyDown={storyKeys}>
          {all.map((branch, n) => (
            <div
              key={n}
              class={split ? "branch split-branch" : "branch"}
              style={split ? { marginLeft: `${branch.level * 14}px` } : {}}
            >
              {split ? <div class="branch-head">{bytesText(branch.bytes)}</div> : null}
              {steps(branch.hops).map((step, at) => (
                <StepRow key={at} step={step} />
              ))}
            </div>
          ))}
          <div class="story-foot">
            <button type="button" class="text-button" onClick={() => copy(asText(picked.text, all))}>
              Copy as text
            </button>
            {answer.end && answer.end.end !== "complete" ? (
              <button type="button" class="text-button" onClick={() => answer.more("after")}>
                Follow further
              </button>
            ) : null}
          </div>
        </div>
      </States>
    </div>
  );
}

function storyKeys(event: KeyboardEvent) {
  const list = event.currentTarget as HTMLElement;
  const links = [...list.querySelectorAll<HTMLElement>("a.hop-link, button.hop-fold")];
  const at = links.indexOf(document.activeElement as HTMLElement);
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by || event.altKey) return;
  event.preventDefault();
  links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus();
}

function StepRow({ step }: { step: Step }) {
  const [open, setOpen] = useState(false);
  const first = step.hops[0];
  if (!first) return null;
  if (step.hops.length > 1 && !open) {
    const names = [...new Set(step.hops.map(copier))];
    return (
      <div class="hop hop-copied" role="listitem">
        <Rail hop={first} />
        <button type="button" class="hop-fold" onClick={() => setOpen(true)} title="Show every copy">
          <Icon name="open" /> copied {plural(step.hops.length, "time")}: {names.slice(0, 5).join(", ")}
          {names.length > 5 ? "…" : ""}
        </button>
      </div>
    );
  }
  return (
    <>
      {step.hops.map((hop, n) => (
        <HopRow key={n} hop={hop} />
      ))}
    </>
  );
}

function Rail({ hop }: { hop: Hop }) {
  return (
    <span class="rail" title={hop.task ? `Task ${hop.task}` : undefined}>
      <span class="rail-dot" style={hop.task ? { background: taskColour(hop.task) } : {}} />
    </span>
  );
}

function HopRow({ hop }: { hop: Hop }) {
  const now = focus.value;
  const current = now?.moment === (hop.focus?.moment ?? hop.moment);
  const value = valueText(hop.value);
  const target = hop.focus ?? (hop.moment ? { moment: hop.moment, frame: hop.frame ?? null } : null);
  const classes = ["hop", `hop-${hop.kind}`];
  const place = ownPlace(hop);
  const text = hop.own && hop.called ? `in ${plainName(hop.called)}${hop.text ? `, ${hop.text}` : ""}` : hop.text;
  if (current) classes.push("current");
  return (
    <div
      class={classes.join(" ")}
      role="listitem"
      aria-current={current ? "true" : undefined}
      onClick={(event) => {
        if (!event.defaultPrevented && target) go(target);
      }}
    >
      <Rail hop={hop} />
      <div class="hop-body">
        <div class="hop-line">
          <span class="hop-verb">{VERBS[hop.kind] ?? hop.kind}</span>
          <Link to={target} class="hop-link" title={placeTitle(hop.place)}>
            {place?.function || place?.line ? placeText(place) : "before it ran"}
          </Link>
          {value ? (
            <span class="value">
              <Coloured text={value} />
              {hop.old !== undefined && hop.old !== value ? <span class="dim"> was {hop.old}</span> : null}
            </span>
          ) : null}
          <span class="pane-space" />
          <span class="moment">{hop.moment ? grouped(hop.moment) : ""}</span>
        </div>
        {text ? <div class="hop-text">{text}</div> : null}
        {hop.warning ? <div class="hop-warning">{hop.warning}</div> : null}
        {hop.operands && hop.operands.length > 0 ? (
          <div class="hop-operands">
            {hop.operands.map((it) => (
              <Link
                key={it.name}
                class="operand"
                to={it.focus || it.data ? { ...(it.focus ?? {}), data: it.data ?? it.name } : null}
                title="Follow where this one came from"
              >
                {it.name}
                {it.value !== undefined ? ` = ${valueText(it.value)}` : ""}
              </Link>
            ))}
          </div>
        ) : null}
      </div>
    </div>
  );
}

function asText(name: string, all: Branch[]): string {
  const lines = [name];
  for (const branch of all) {
    if (all.length > 1) lines.push(` ${bytesText(branch.bytes)}`);
    const indent = "  ".repeat(branch.level + 1);
    for (const hop of branch.hops) {
      const parts = [VERBS[hop.kind] ?? hop.kind, placeText(ownPlace(hop)), valueText(hop.value), hop.text];
      lines.push(`${indent}${parts.filter(Boolean).join("  ")}${hop.moment ? `  (at ${hop.moment})` : ""}`);
    }
  }
  return lines.join("\n");
}
