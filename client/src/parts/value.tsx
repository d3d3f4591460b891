// A value: its text, coloured by what it is, its badges, and a click that asks where it came from.

import type { Focus, Value as ValueNoun } from "../protocol/types";
import { acted } from "../protocol/use_answer";
import { data, focus, go, whole } from "../state/focus";
import { show, shown } from "../state/layout";
import { hashOf } from "../state/url";
import { Coloured } from "./coloured";
import { isPlain } from "./link";
import { valueMenu } from "./menu";

const BADGES: Record<string, string> = {
  "optimised-out": "optimised out",
  "not-readable": "not readable",
  "not-yet-assigned": "not yet assigned",
  changed: "changed",
  freed: "freed",
};

/** Makes a value the data that Dataflow and Accesses are about; the moment stays. */
export function pick(path: string, at?: Focus): void {
  acted();
  const now = focus.peek();
  if (at && now && (at.moment !== now.moment || at.frame !== now.frame)) {
    const { task, moment, frame } = at;
    go({ moment, ...(task === undefined ? {} : { task }), frame: frame ?? null, data: path });
  } else go({ data: path });
  if (!["dataflow", "accesses", "memory"].some(shown)) show("dataflow");
}

interface Properties {
  value: ValueNoun;
  /** Where it was read, if not at the focus. */
  at?: Focus | undefined;
  name?: boolean;
  changed?: boolean;
  /** Among others in one row: cut early. */
  brief?: boolean;
}

const BRIEF = 40;

export function Value({ value, at, name, changed, brief }: Properties) {
  const complete = value.text ?? "";
  const text = brief && complete.length > BRIEF ? `${complete.slice(0, BRIEF - 1)}…` : complete;
  const path = value.path;
  // That a text is cut is seen at its end; what is said twice is meant once.
  const badges = [...new Set(value.badges)].filter((it) => it !== "cut");
  if (value.shadowed) badges.push("shadowed");
  if (changed && !badges.includes("changed")) badges.push("changed");
  const title = [text === complete ? "" : complete.slice(0, 1000), value.type, value.address && `at ${value.address}`].filter(Boolean).join("\n");
  const of = data.value;
  const where = at ?? whole.value?.focus;
  const picked = path !== undefined && of?.text === path && of.at.moment === where?.moment;
  const click = (event: MouseEvent) => {
    if (!isPlain(event) || !path) return;
    event.preventDefault();
    event.stopPropagation();
    pick(path, at);
  };
  const to = path ? whole.peek() : null;
  return (
    <span class="value-part">
      {name && value.name ? (
        <>
          <span class="value-name">{value.name}</span>
          <span class="punctuation">=</span>
        </>
      ) : null}
      {path && to ? (
        <a
          class={picked ? "value picked" : "value"}
          href={hashOf({ focus: to.focus, data: { text: path, at: at ?? to.focus } })}
          onClick={click}
          onContextMenu={(event) => valueMenu(event, value)}
          title={`${title}${title ? "\n" : ""}Click: where it came from`}
          tabIndex={-1}
        >
          <Coloured text={text || "?"} />
        </a>
      ) : (
        <span class="value" title={title}>
          <Coloured text={text} />
        </span>
      )}
      {badges.map((it) => (
        <span key={it} class={`badge badge-${it}`}>
          {BADGES[it] ?? it.replaceAll("-", " ")}
        </span>
      ))}
    </span>
  );
}
