// Overlays that block nothing: all keys, all views, the first visit's three sentences.

import { useEffect, useRef } from "preact/hooks";
import { commands, keyText, overlay, type Command } from "../state/commands";
import { show } from "../state/layout";
import { welcome } from "../state/settings";
import { views } from "../views/registry";
import { Icon } from "./icons";

const GROUPS: Command["group"][] = ["Steps", "Frames", "Questions", "Moments", "Page"];

const HANDS: [string, string][] = [
  ["Click a row", "Go there; Back returns"],
  ["Click a value", "Where it came from"],
  ["Ctrl-click", "In another browser tab"],
  ["Right click a value", "All that can be asked"],
  ["Alt-click in Output", "The write itself"],
  ["Double-click a tab", "Fill the page with it"],
  ["Drag a tab", "To another pane or its edge"],
  ["Up, Down, Enter", "Move in any list, and go"],
];

function useAway(close: () => void) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    box.current?.focus();
    const away = (event: Event) => {
      const target = event.target as HTMLElement;
      if (!box.current?.contains(target) && !target.closest("[data-opens]")) close();
    };
    document.addEventListener("pointerdown", away);
    return () => {
      document.removeEventListener("pointerdown", away);
      before?.focus?.();
    };
  }, []);
  return box;
}

const shut = () => {
  overlay.value = "";
};

export function Help() {
  const box = useAway(shut);
  return (
    <div class="overlay help" role="dialog" aria-label="All keys" tabIndex={-1} ref={box}>
      <div class="overlay-head">
        <h2>Keys</h2>
        <button type="button" class="icon-button" title="Close (Esc)" onClick={shut}>
          <Icon name="close" />
        </button>
      </div>
      <div class="help-groups">
        {GROUPS.map((group) => (
          <section key={group}>
            <h3>{group}</h3>
            {commands
              .filter((it) => it.group === group)
              .map((it) => (
                <div class="help-row" key={it.id}>
                  <span class="help-keys">
                    {it.keys.map((key) => (
                      <kbd key={key}>{keyText(key)}</kbd>
                    ))}
                  </span>
                  <span>{it.title}</span>
                </div>
              ))}
          </section>
        ))}
        <section>
          <h3>Hands</h3>
          {HANDS.map(([what, does]) => (
            <div class="help-row" key={what}>
              <span class="help-hand">{what}</span>
              <span>{does}</span>
            </div>
          ))}
        </section>
      </div>
    </div>
  );
}

export function Toolbox() {
  const box = useAway(shut);
  return (
    <div class="overlay toolbox" role="dialog" aria-label="All views" tabIndex={-1} ref={box}>
      {views.map((it) => (
        <button
          type="button"
          key={it.id}
          class="card"
          onClick={() => {
            shut();
            show(it.id);
          }}
        >
          <b>{it.title}</b>
          <span>{it.asks}</span>
        </button>
      ))}
    </div>
  );
}

export function Welcome() {
  if (welcome.value === "gone") return null;
  return (
    <div class="welcome">
      <span>
        <b>Alerts</b> and the marks over the run show what went wrong.
      </span>
      <span>
        Click anything to <b>go there</b>; Back returns.
      </span>
      <span>
        Click a value for its <b>story</b>: where it came from.
      </span>
      <span class="pane-space" />
      <button
        type="button"
        class="button"
        onClick={() => {
          welcome.value = "gone";
        }}
      >
        Got it
      </button>
    </div>
  );
}
