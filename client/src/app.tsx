// The frame of the page: header with trail and search, the run, the panes.

import { batch, effect, signal } from "@preact/signals";
import { useEffect, useLayoutEffect } from "preact/hooks";
import { Icon } from "./parts/icons";
import { Link } from "./parts/link";
import { Menu } from "./parts/menu";
import { Help, Toolbox, Welcome } from "./parts/overlays";
import { Panes } from "./parts/panes";
import { Search } from "./parts/search";
import { fileName, grouped, placeText, placeTitle } from "./parts/text";
import { Timeline } from "./parts/timeline";
import { connected, hello, pending } from "./protocol/connection";
import type { Overview, Place, State } from "./protocol/types";
import { useAnswer } from "./protocol/use_answer";
import { commands, overlay } from "./state/commands";
import { focus, focusKey, here, ready, resolve, said, whole, type Whole } from "./state/focus";
import { complaint } from "./state/url";

interface Chip {
  whole: Whole;
  place: Place | null;
}

const TRAIL_MAX = 6;
const trail = signal<Chip[]>([]);

/** Tells tests, and nobody else, that nothing is on its way. */
function markIdle(): void {
  let frame = 0;
  effect(() => {
    const busy = pending.value > 0 || connected.value === "connecting";
    cancelAnimationFrame(frame);
    if (busy) document.documentElement.removeAttribute("data-idle");
    else {
      // Answers are drawn, and what they lead to is asked, in the frames after.
      frame = requestAnimationFrame(() => {
        frame = requestAnimationFrame(() => {
          if (pending.peek() === 0) document.documentElement.setAttribute("data-idle", "");
        });
      });
    }
  });
}
markIdle();

export function App() {
  const overview = useAnswer<Overview>({ question: "overview" });
  const row = overview.rows[0];
  useEffect(() => {
    if (!row || whole.peek()) return;
    const start = resolve(row.start ?? { moment: String(row.sealed ?? row.instructions) }, null);
    if (start) whole.value = start;
  }, [row]);
  const now = focus.value;
  const key = focusKey(now);
  const state = useAnswer<State>(now ? { question: "state", focus: now } : null);
  const answered = state.end !== null;
  useLayoutEffect(() => {
    const it = state.rows[0];
    if (!answered) return;
    if (!it || state.error) {
      ready.value = key;
      return;
    }
    batch(() => {
      ready.value = key;
      here.value = { place: it.place ?? null, key };
      const at = whole.peek();
      if (!at) return;
      // The frame is known now: what is asked from here on names it.
      const frame = it.focus?.frame;
      const task = it.focus?.task;
      if (frame && !at.focus.frame) {
        const full = { ...at.focus, frame, ...(task === undefined ? {} : { task }) };
        const same = at.data && focusKey(at.data.at) === focusKey(at.focus);
        whole.value = { focus: full, data: same && at.data ? { ...at.data, at: full } : at.data };
      }
      const last = trail.peek().at(-1);
      if (!last || last.whole.focus.moment !== at.focus.moment) {
        trail.value = [...trail.peek(), { whole: at, place: it.place ?? null }].slice(-TRAIL_MAX);
      }
    });
  }, [answered, key]);
  const program = fileName(row?.program) || hello.value.program || "pernosco";
  useEffect(() => {
    const at = placeText(here.value.place);
    document.title = at ? `${at} · ${program}` : program;
  }, [here.value, program]);
  return (
    <div class={connected.value === "lost" ? "app cut-off" : "app"}>
      <Header program={program} overview={row} state={state.rows[0]} />
      {connected.value === "lost" ? (
        <div class="bar bar-error" role="alert">
          Server gone, retrying
        </div>
      ) : null}
      {complaint.value ? (
        <div class="bar bar-warn" role="alert">
          {complaint.value}
          <button type="button" class="text-button" onClick={() => { complaint.value = ""; }}>
            Close
          </button>
        </div>
      ) : null}
      {overview.error ? (
        <div class="bar bar-error" role="alert">
          {overview.error.what}. {overview.error.try ?? ""}
        </div>
      ) : null}
      {state.error ? (
        <div class="bar bar-warn" role="alert">
          {state.error.what}. {state.error.try ?? ""}
        </div>
      ) : null}
      {row && row.complete === false ? (
        <div class="bar bar-warn">
          The database is not finished: it reaches moment {grouped(row.sealed ?? 0)}. Go on with{" "}
          <code>pernosco build</code>.
        </div>
      ) : null}
      <Welcome />
      <Timeline />
      <main class="panes">
        <Panes />
      </main>
      <Said />
      {overlay.value === "help" ? <Help /> : null}
      {overlay.value === "views" ? <Toolbox /> : null}
      <Menu />
    </div>
  );
}

function run(id: string) {
  return () => commands.find((it) => it.id === id)?.run();
}

function Header({
  program,
  overview,
  state,
}: {
  program: string;
  overview: Overview | undefined;
  state: State | undefined;
}) {
  const place = here.value.place;
  const title = [overview?.arguments?.join(" "), overview?.directory, overview?.exit].filter(Boolean).join("\n");
  const now = focus.value;
  return (
    <header class="header">
      <span class="program" title={title}>
        {program}
      </span>
      {overview?.exit ? <span class="dim header-exit">{overview.exit}</span> : null}
      <span class="header-moves">
        <button type="button" class="icon-button" title="Back" onClick={() => history.back()}>
          <Icon name="back" />
        </button>
        <button type="button" class="icon-button" title="Forward" onClick={() => history.forward()}>
          <Icon name="forward" />
        </button>
      </span>
      <nav class="trail" aria-label="Last moves">
        {[...trail.value.entries()].reverse().map(([n, it]) => {
          const last = n === trail.value.length - 1;
          const { moment, task, frame } = it.whole.focus;
          const target = { moment, ...(task === undefined ? {} : { task }), frame: frame ?? null };
          return (
            <span key={`${moment}${n}`} class="trail-step">
              {n > 0 ? <span class="trail-arrow" aria-hidden="true">›</span> : null}
              <Link to={target} class={last ? "chip chip-last" : "chip"} title={`${placeTitle(it.place)}\nmoment ${grouped(moment)}`}>
                {placeText(it.place) || grouped(moment)}
              </Link>
            </span>
          );
        })}
      </nav>
      <span class="moment-now" title={state?.next ? `next: ${state.next}` : placeTitle(place)}>
        {now ? grouped(now.moment) : ""}
        {overview ? <span class="dim"> of {grouped(overview.instructions)}</span> : null}
      </span>
      <Search />
      <button type="button" class="button" data-opens onClick={run("views")}>
        <Icon name="views" /> Views
      </button>
      <button type="button" class="icon-button" title="Keep a note of this moment (b)" onClick={run("keep")}>
        <Icon name="note" />
      </button>
      <button type="button" class="icon-button" title="Light or dark (D)" onClick={run("theme")}>
        <Icon name="theme" />
      </button>
      <button type="button" class="icon-button help-button" data-opens title="All keys (?)" onClick={run("help")}>
        ?
      </button>
    </header>
  );
}

/** What was last said: seen for a while, and read out. Moves are announced here too. */
function Said() {
  const { text, number } = said.value;
  const place = here.value.place;
  return (
    <>
      {text ? (
        <div class="said" key={number} aria-hidden="true">
          {text}
        </div>
      ) : null}
      <div class="visually-hidden" aria-live="polite">
        {text ? `${text}. ` : ""}
        {place ? `At ${placeText(place)}` : ""}
      </div>
    </>
  );
}
