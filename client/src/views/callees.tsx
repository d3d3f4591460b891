// Callees: what did this call call? Unfolds.

import { useState } from "preact/hooks";
import { Icon } from "../parts/icons";
import { Link } from "../parts/link";
import { Failed, States } from "../parts/states";
import { grouped, placeText, placeTitle, plural, shortName } from "../parts/text";
import { treeKeys } from "../parts/tree";
import { Value } from "../parts/value";
import type { Call, Focus } from "../protocol/types";
import { useAnchor } from "../protocol/use_anchor";
import { useAnswer } from "../protocol/use_answer";
import { here, moment, settled } from "../state/focus";
import { TreeHome } from "./locals";

const WINDOW = { before: 200, after: 200 };

export function CalleesView() {
  const now = settled.value;
  const anchor = useAnchor();
  const at = anchor.at(now, now?.frame ?? "");
  const answer = useAnswer<Call>(at ? { question: "callees", focus: at, window: WINDOW } : null);
  anchor.seen(answer);
  const place = here.value.place;
  return (
    <States
      answer={answer}
      empty={
        <p>
          {place?.function ? <b>{place.function}</b> : "This call"} called nothing.
        </p>
      }
    >
      <div class="tree callees" role="tree" aria-label="Callees" onKeyDown={treeKeys}>
        {answer.rows.map((it) => (
          <CallRow key={`${it.frame}${it.moment}`} call={it} level={0} />
        ))}
        {answer.end?.after ? (
          <div class="table-note">
            <button type="button" class="text-button" onClick={() => answer.more("after")}>
              Load more
            </button>
          </div>
        ) : null}
        <TreeHome />
      </div>
    </States>
  );
}

function CallRow({ call, level }: { call: Call; level: number }) {
  const [open, setOpen] = useState(false);
  const now = moment.value;
  const inner = call.callees ?? 0;
  const inside = Number(call.moment) <= now && (!call.exit || Number(call.exit) > now);
  const classes = ["tree-row", "call-row"];
  if (Number(call.moment) > now) classes.push("future");
  if (inside) classes.push("current");
  const name = shortName(call.function ?? call.place?.function ?? "?");
  return (
    <>
      <div
        class={classes.join(" ")}
        role="treeitem"
        aria-level={level + 1}
        aria-expanded={inner > 0 ? open : undefined}
        tabIndex={-1}
        style={{ paddingLeft: `${8 + level * 16}px` }}
        onClick={(event) => {
          if (!event.defaultPrevented && inner > 0) setOpen(!open);
        }}
      >
        {inner > 0 ? (
          <span class={open ? "twisty twisty-open" : "twisty"}>
            <Icon name="open" />
          </span>
        ) : (
          <span class="twisty" />
        )}
        <Link to={call.focus ?? { moment: call.moment ?? "0", frame: call.frame ?? null }} class="function-name value" tabIndex={-1}>
          {name}
        </Link>
        <span class="stack-arguments">
          <span class="punctuation">(</span>
          {(call.arguments ?? []).map((it, n) => (
            <span key={it.name ?? n}>
              {n > 0 ? <span class="punctuation">, </span> : null}
              <Value value={it} name brief />
            </span>
          ))}
          <span class="punctuation">)</span>
          {call.result ? (
            <>
              <span class="punctuation"> → </span>
              <Value value={call.result} brief />
            </>
          ) : null}
        </span>
        {inner > 0 ? <span class="dim nowrap">{plural(inner, "call")}</span> : null}
        <span class="stack-place" title={placeTitle(call.place)}>
          {placeText(call.place)}
        </span>
      </div>
      {open ? <Inner call={call} level={level} /> : null}
    </>
  );
}

function Inner({ call, level }: { call: Call; level: number }) {
  const at: Focus = {
    moment: call.focus?.moment ?? call.moment ?? "0",
    ...(call.task === undefined ? {} : { task: call.task }),
    frame: call.frame ?? null,
  };
  const answer = useAnswer<Call>({
    question: "callees",
    arguments: call.frame ? { frame: call.frame } : {},
    focus: at,
    window: WINDOW,
  });
  if (answer.error) return <Failed answer={answer} />;
  return (
    <>
      {answer.rows.map((it) => (
        <CallRow key={`${it.frame}${it.moment}`} call={it} level={level + 1} />
      ))}
      {answer.end?.after ? <div class="table-note">{grouped(answer.rows.length)} shown, there are more</div> : null}
    </>
  );
}
