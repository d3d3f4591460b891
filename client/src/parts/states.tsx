// What a view shows beside rows: loading, empty, truncated, failed.

import type { ComponentChildren } from "preact";
import type { Answer } from "../protocol/use_answer";
import { copy } from "./menu";
import { grouped } from "./text";

/** A thin bar over rows that are being replaced; text once it is known how much there is. */
export function Loading({ answer }: { answer: Answer<unknown> }) {
  if (!answer.slow) return null;
  const { progress } = answer;
  return (
    <div class="loading" role="status">
      <div class="loading-bar" />
      {progress && progress.total > 0 ? (
        <span class="loading-text">
          {grouped(progress.checked)} of {grouped(progress.total)} checked
          <button type="button" class="text-button" onClick={answer.cancel}>
            Cancel
          </button>
        </span>
      ) : null}
    </div>
  );
}

export function Skeleton({ rows = 4 }: { rows?: number }) {
  return (
    <div class="skeleton" aria-hidden="true">
      {Array.from({ length: rows }, (_, n) => (
        <div key={n} class={`skeleton-row skeleton-${n % 3}`} />
      ))}
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>;
}

export function Failed({ answer }: { answer: Answer<unknown> }) {
  const error = answer.error;
  if (!error) return null;
  const soft = ["not-yet", "not-available", "no-such-question"].includes(error.code);
  return (
    <div class={soft ? "failed failed-soft" : "failed"} role="alert">
      <p class="failed-what">{error.what}</p>
      {error.where ? <p class="dim">at {error.where}</p> : null}
      {error.try ? <p>{error.try}</p> : null}
      <p>
        <button type="button" class="text-button" onClick={answer.retry}>
          Retry
        </button>
        <button type="button" class="text-button" onClick={() => copy(JSON.stringify(error))}>
          Copy details
        </button>
      </p>
    </div>
  );
}

/** Rows, or the state in their place. `empty` says why there is none and what next. */
export function States({
  answer,
  empty,
  children,
}: {
  answer: Answer<unknown>;
  empty: ComponentChildren;
  children: ComponentChildren;
}) {
  let inside: ComponentChildren;
  if (answer.error) inside = <Failed answer={answer} />;
  else if (answer.first && answer.loading) inside = <Skeleton />;
  else if (answer.rows.length === 0 && answer.end) inside = <Empty>{empty}</Empty>;
  else inside = children;
  return (
    <div class={answer.slow ? "states stale" : "states"} aria-busy={answer.loading}>
      <Loading answer={answer} />
      {inside}
    </div>
  );
}
