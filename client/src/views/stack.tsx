// Stack: how did we get here? Arguments as they were at entry.

import { Link } from "../parts/link";
import { States } from "../parts/states";
import { fileName, grouped, placeTitle, shortName } from "../parts/text";
import { Value } from "../parts/value";
import type { Frame, Target } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { focus, go } from "../state/focus";

const FRAMES = 200;
/** Equal frames in a row that are worth folding. */
const FOLD = 4;

interface Shown {
  frame: Frame;
  folded: number;
}

/** Recursion folds: what repeats more often is shown at its ends. */
function folded(rows: Frame[], current: string | null | undefined): Shown[] {
  const shown: Shown[] = [];
  for (let at = 0; at < rows.length; ) {
    const frame = rows[at] as Frame;
    let same = 1;
    const alike = (it: Frame | undefined) =>
      frame.function !== undefined && it?.function === frame.function && it?.place?.line === frame.place?.line && it?.frame !== current;
    while (alike(rows[at + same])) same++;
    if (same > FOLD) {
      shown.push({ frame, folded: 0 });
      shown.push({ frame: rows[at + 1] as Frame, folded: same - 2 });
      shown.push({ frame: rows[at + same - 1] as Frame, folded: 0 });
    } else {
      for (let n = 0; n < same; n++) shown.push({ frame: rows[at + n] as Frame, folded: 0 });
    }
    at += same;
  }
  return shown;
}

export function StackView() {
  const now = focus.value;
  // The frame is marked here, not asked about.
  const at = now && { moment: now.moment, ...(now.task === undefined ? {} : { task: now.task }) };
  const ask = (args: Record<string, unknown>) =>
    at && { question: "stack", arguments: args, focus: at, window: { before: 0, after: FRAMES } };
  // Names come at once; arguments are read where each call was entered, and come after.
  const quick = useAnswer<Frame>(ask({}));
  const full = useAnswer<Frame>(ask({ arguments: true }));
  const answer = full.end && !full.error ? full : quick;
  const { rows } = answer;
  const known = rows.some((it) => it.frame === now?.frame);
  const current = known ? now?.frame : rows[0]?.frame;
  const target = (it: Frame): Target => ({ ...(it.focus ?? {}), frame: it.frame });
  const keys = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by || event.altKey) return;
    event.preventDefault();
    const at = rows.findIndex((it) => it.frame === current);
    const next = rows[at + by];
    if (next) go(target(next), next.place);
  };
  return (
    <States answer={answer} empty="No call is known here: the task has not begun, or has ended.">
      <div class="stack" role="listbox" aria-label="Stack" tabIndex={0} data-home onKeyDown={keys}>
        {folded(rows, current).map(({ frame, folded: more }) =>
          more > 0 ? (
            <div key={`fold${frame.frame}`} class="stack-fold">
              {grouped(more)} more of <b>{shortName(frame.function ?? "?")}</b>
            </div>
          ) : (
            <StackRow key={frame.frame} frame={frame} current={frame.frame === current} target={target(frame)} />
          ),
        )}
        {answer.end?.after ? (
          <div class="table-note">
            <button type="button" class="text-button" onClick={() => answer.more("after")}>
              Load more frames
            </button>
          </div>
        ) : null}
      </div>
    </States>
  );
}

function StackRow({ frame, current, target }: { frame: Frame; current: boolean; target: Target }) {
  const { place, kind } = frame;
  const values = frame.arguments ?? [];
  const classes = ["stack-row"];
  if (current) classes.push("current");
  if (!place?.own) classes.push("foreign");
  return (
    <div
      class={classes.join(" ")}
      role="option"
      aria-selected={current}
      title={placeTitle(place)}
      onClick={(event) => {
        if (!event.defaultPrevented) go(target, place);
      }}
    >
      <Link to={target} class="stack-name row-link" tabIndex={-1}>
        {kind === "inlined" ? <span class="badge">inlined</span> : null}
        {kind === "signal" ? <span class="badge badge-warn">signal</span> : null}
        <span class="function-name">{shortName(frame.function ?? place?.function ?? place?.address ?? "?")}</span>
      </Link>
      <span class="stack-arguments">
        <span class="punctuation">(</span>
        {values.map((it, n) => (
          <span key={it.name ?? n}>
            {n > 0 ? <span class="punctuation">, </span> : null}
            <Value
              value={it}
              name
              brief
              at={{
                moment: frame.entry ?? target.moment ?? "0",
                ...(target.task === undefined ? {} : { task: target.task }),
                frame: frame.frame,
              }}
            />
          </span>
        ))}
        <span class="punctuation">)</span>
      </span>
      <span class="stack-place">
        {place?.file ? `${fileName(place.file)}:${place.line ?? "?"}` : fileName(place?.module)}
      </span>
    </div>
  );
}
