// Registers: what is in the processor?

import { useState } from "preact/hooks";
import { States } from "../parts/states";
import { pick } from "../parts/value";
import { useAnswer } from "../protocol/use_answer";
import { settled } from "../state/focus";

interface Register {
  name: string;
  value: string;
  text?: string;
  changed?: boolean;
}

export function RegistersView() {
  const now = settled.value;
  const [vector, setVector] = useState(false);
  const answer = useAnswer<Register>(
    now
      ? { question: "registers", arguments: { vector }, focus: now, window: { before: 0, after: 200 } }
      : null,
  );
  return (
    <States answer={answer} empty="Registers are not known here.">
      <div class="registers" tabIndex={0} data-home>
        <div class="register-grid">
          {answer.rows.map((it) => (
            <button
              type="button"
              key={it.name}
              class={it.changed ? "register changed" : "register"}
              title={`$${it.name}: click asks where it came from`}
              onClick={() => pick(`$${it.name}`)}
            >
              <span class="register-name">{it.name}</span>
              <span class="register-value">{it.value}</span>
              <span class="dim register-text">{it.text ?? ""}</span>
              {it.changed ? <span class="badge badge-changed">changed</span> : null}
            </button>
          ))}
        </div>
        <label class="check">
          <input type="checkbox" checked={vector} onChange={() => setVector(!vector)} /> Vector registers
        </label>
      </div>
    </States>
  );
}
