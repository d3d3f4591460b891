// Alerts: what went wrong? The worst first.

import { Icon } from "../parts/icons";
import { Link } from "../parts/link";
import { States } from "../parts/states";
import { grouped, placeText, placeTitle } from "../parts/text";
import type { Alert } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { moment } from "../state/focus";

export function AlertsView() {
  const answer = useAnswer<Alert>({ question: "alerts", window: { before: 1000, after: 1000 } });
  const now = moment.value;
  return (
    <States
      answer={answer}
      empty="Nothing went wrong: no signal, no failed assertion, no bad exit status."
    >
      <div class="alerts" role="list" tabIndex={0} data-home>
        {answer.rows.map((it, n) => {
          const current = Number(it.moment) === now;
          const kind = it.handled ? "alert handled" : "alert";
          return (
            <div key={n} role="listitem" class={current ? `${kind} current` : kind}>
              <Icon name="alert" />
              <Link to={it.focus ?? (it.moment ? { moment: it.moment } : null)} class="alert-text row-link">
                {it.text}
              </Link>
              {it.handled ? <span class="badge">handled</span> : null}
              <span class="dim" title={placeTitle(it.place)}>
                {placeText(it.place)}
              </span>
              <span class="moment">{it.moment ? grouped(it.moment) : ""}</span>
            </div>
          );
        })}
      </div>
    </States>
  );
}
