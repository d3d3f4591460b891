// The distribution of executions in time, over a list of them.

import type { Focus } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { go, moment } from "../state/focus";
import { grouped } from "./text";

interface Bucket {
  from: string;
  to: string;
  count: number | string;
}

const BUCKETS = 120;

export function Strip({ what, at }: { what: Record<string, unknown>; at: Focus | null }) {
  const answer = useAnswer<Bucket>(
    at && Object.keys(what).length > 0
      ? {
          question: "histogram",
          arguments: { ...what, buckets: BUCKETS },
          // The picture is of the whole scope: only a call needs to know which.
          ...(what.scope ? { focus: at } : {}),
          window: { before: 0, after: BUCKETS },
        }
      : null,
  );
  const { rows } = answer;
  if (answer.error || rows.length < 2) return null;
  const first = Number(rows[0]?.from ?? 0);
  const span = Math.max(1, Number(rows.at(-1)?.to ?? 1) - first);
  const most = Math.max(1, ...rows.map((it) => Number(it.count)));
  const x = (it: string | number) => ((Number(it) - first) / span) * 1000;
  const now = moment.value;
  return (
    <svg class="strip" viewBox="0 0 1000 24" preserveAspectRatio="none" aria-hidden="true">
      {rows.map((it) => {
        const height = Number(it.count) > 0 ? 3 + (Number(it.count) / most) * 20 : 0;
        return (
          <rect
            key={it.from}
            x={x(it.from)}
            y={24 - height}
            width={Math.max(2, x(it.to) - x(it.from) - 1)}
            height={height}
            onClick={() => go({ moment: it.from, frame: null })}
          >
            <title>{`${grouped(it.count)} from ${grouped(it.from)}`}</title>
          </rect>
        );
      })}
      {now >= first && now <= first + span ? <line x1={x(now)} x2={x(now)} y1="0" y2="24" /> : null}
    </svg>
  );
}
