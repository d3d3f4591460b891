// The head of views about data: which value, and where it was picked.

import { Link } from "../parts/link";
import { grouped } from "../parts/text";
import { Value } from "../parts/value";
import type { Value as ValueNoun } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { focus, type Data } from "../state/focus";

export function About({ data }: { data: Data }) {
  const answer = useAnswer<ValueNoun>({
    question: "evaluate",
    arguments: { expression: data.text },
    focus: data.at,
  });
  const value = answer.rows[0];
  const elsewhere = focus.value && focus.value.moment !== data.at.moment;
  return (
    <div class="view-head about">
      <span class="view-target">{data.text}</span>
      {value && !answer.error ? (
        <>
          <span class="punctuation">=</span>
          <Value value={{ ...value, path: data.text }} at={data.at} />
        </>
      ) : null}
      <span class="pane-space" />
      {elsewhere ? (
        <Link to={{ ...data.at, frame: data.at.frame ?? null }} class="about-at">
          at {grouped(data.at.moment)}
        </Link>
      ) : (
        <span class="dim">at the focus</span>
      )}
    </div>
  );
}
