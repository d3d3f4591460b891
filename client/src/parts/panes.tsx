// Panes: tabs over a view, beside and above each other, with splitters between.

import { signal } from "@preact/signals";
import { useCallback, useRef, useState } from "preact/hooks";
import { acted, PaneTimes, type Times } from "../protocol/use_answer";
import {
  bring,
  close,
  layout,
  maximised,
  merged,
  move,
  NARROW_PX,
  type Edge,
  type Node,
  type Split,
  type Tabs,
} from "../state/layout";
import { views } from "../views/registry";
import { Icon } from "./icons";
import { milliseconds } from "./text";

const AMBER_MS = 100;

const dragged = signal<{ pane: Tabs; at: number } | null>(null);

const width = signal(window.innerWidth);
window.addEventListener("resize", () => {
  width.value = window.innerWidth;
});

export function Panes() {
  if (width.value < NARROW_PX) return <Pane pane={merged(layout.value)} />;
  const top = maximised.value;
  if (top) {
    const pane = find(layout.value, top);
    if (pane) return <Pane pane={pane} />;
  }
  return <Part node={layout.value} />;
}

function find(node: Node, view: string): Tabs | null {
  if (node.kind === "tabs") return node.tabs.some((it) => it.view === view) ? node : null;
  for (const it of node.children) {
    const found = find(it.node, view);
    if (found) return found;
  }
  return null;
}

function Part({ node }: { node: Node }) {
  return node.kind === "tabs" ? <Pane pane={node} /> : <SplitPart split={node} />;
}

function SplitPart({ split }: { split: Split }) {
  const box = useRef<HTMLDivElement>(null);
  const [weights, setWeights] = useState<number[] | null>(null);
  const now = weights ?? split.children.map((it) => it.weight);
  const total = now.reduce((sum, it) => sum + it, 0);

  const shifted = (at: number, by: number): number[] => {
    const next = [...now];
    const pair = (next[at] ?? 0) + (next[at + 1] ?? 0);
    const first = Math.max(pair * 0.08, Math.min(pair * 0.92, (next[at] ?? 0) + by));
    next[at] = first;
    next[at + 1] = pair - first;
    return next;
  };
  const keep = (next: number[]) => {
    // Whole numbers of a thousand go into the URL.
    const sum = next.reduce((a, b) => a + b, 0);
    const set = (node: Node): Node => {
      if (node === split) {
        const children = split.children.map((it, n) => ({
          ...it,
          weight: Math.max(1, Math.round(((next[n] ?? 1) / sum) * 100)),
        }));
        return { ...split, children };
      }
      if (node.kind === "tabs") return node;
      return { ...node, children: node.children.map((it) => ({ ...it, node: set(it.node) })) };
    };
    layout.value = set(layout.peek());
    setWeights(null);
  };
  const drag = (event: PointerEvent, at: number) => {
    const bar = event.currentTarget as HTMLElement;
    bar.setPointerCapture(event.pointerId);
    const across = split.kind === "row";
    const size = (across ? box.current?.clientWidth : box.current?.clientHeight) ?? 1;
    const start = across ? event.clientX : event.clientY;
    let next = now;
    const moved = (it: PointerEvent) => {
      next = shifted(at, (((across ? it.clientX : it.clientY) - start) / size) * total);
      setWeights(next);
    };
    const done = () => {
      bar.removeEventListener("pointermove", moved);
      keep(next);
    };
    bar.addEventListener("pointermove", moved);
    bar.addEventListener("pointerup", done, { once: true });
  };
  return (
    <div class={`split split-${split.kind}`} ref={box}>
      {split.children.map((it, at) => (
        <>
          {at > 0 ? (
            <div
              key={`bar${at}`}
              class="splitter"
              role="separator"
              tabIndex={0}
              aria-orientation={split.kind === "row" ? "vertical" : "horizontal"}
              aria-label="Size of the panes beside"
              aria-valuenow={Math.round(((now[at - 1] ?? 0) / total) * 100)}
              onPointerDown={(event) => drag(event, at - 1)}
              onKeyDown={(event) => {
                const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
                if (!by) return;
                event.preventDefault();
                keep(shifted(at - 1, (by * total) / 50));
              }}
            />
          ) : null}
          <div key={`part${at}`} class="split-part" style={{ flex: `${(now[at] ?? 1) / total} 1 0` }}>
            <Part node={it.node} />
          </div>
        </>
      ))}
    </div>
  );
}

function Pane({ pane }: { pane: Tabs }) {
  const tab = pane.tabs[pane.front] ?? pane.tabs[0];
  const [times, setTimes] = useState<Times | null>(null);
  const [drop, setDrop] = useState<Edge | null>(null);
  const [detail, setDetail] = useState(false);
  const tell = useCallback((it: Times) => setTimes(it), []);
  if (!tab) return null;
  const view = views.find((it) => it.id === tab.view);
  if (!view) return null;
  const Body = view.body;
  const name = `pane-${pane.tabs[0]?.view}`;

  const edgeOf = (event: DragEvent): Edge => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    if (event.clientY - box.top < 30) return "middle";
    if (x < 0.22) return "left";
    if (x > 0.78) return "right";
    if (y < 0.25) return "top";
    return y > 0.75 ? "bottom" : "middle";
  };
  const choose = (at: number) => {
    acted();
    bring(pane, at);
  };
  const tabKeys = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (event.key === "Delete") close(pane, pane.front);
    else if (!by) return;
    else {
      choose((pane.front + by + pane.tabs.length) % pane.tabs.length);
      const list = event.currentTarget as HTMLElement;
      requestAnimationFrame(() => list.querySelector<HTMLElement>('[tabindex="0"]')?.focus());
    }
    event.preventDefault();
  };
  return (
    <section
      class="pane"
      aria-label={view.title}
      data-view={view.id}
      onDragOver={(event) => {
        if (!dragged.peek()) return;
        event.preventDefault();
        setDrop(edgeOf(event));
      }}
      onDragLeave={() => setDrop(null)}
      onDrop={(event) => {
        event.preventDefault();
        const from = dragged.peek();
        dragged.value = null;
        setDrop(null);
        if (from) move(from.pane, from.at, pane, edgeOf(event));
      }}
    >
      <div class="pane-head">
        <div class="tabs" role="tablist" onKeyDown={tabKeys}>
          {pane.tabs.map((it, at) => {
            const title = views.find((view) => view.id === it.view)?.title ?? it.view;
            const front = at === pane.front;
            return (
              <div key={it.view} class={front ? "tab-box front" : "tab-box"}>
                <button
                  type="button"
                  role="tab"
                  class="tab"
                  aria-selected={front}
                  aria-controls={name}
                  tabIndex={front ? 0 : -1}
                  draggable
                  onDragStart={() => {
                    dragged.value = { pane, at };
                  }}
                  onDragEnd={() => {
                    dragged.value = null;
                  }}
                  onClick={() => choose(at)}
                  onDblClick={() => {
                    maximised.value = maximised.peek() ? null : it.view;
                  }}
                  onAuxClick={(event) => {
                    if (event.button === 1) close(pane, at);
                  }}
                >
                  {title}
                </button>
                {front && layout.value !== pane ? (
                  <button
                    type="button"
                    class="icon-button tab-close"
                    tabIndex={-1}
                    title={`Close ${title} (Delete)`}
                    onClick={() => close(pane, at)}
                  >
                    <Icon name="close" />
                  </button>
                ) : null}
              </div>
            );
          })}
        </div>
        <span class="pane-space" />
        {times ? (
          <button
            type="button"
            class={times.paint > AMBER_MS ? "pane-time amber" : "pane-time"}
            tabIndex={-1}
            title="From the click to the drawn answer. Click for its parts"
            onClick={() => setDetail(!detail)}
          >
            {detail ? <TimeParts times={times} /> : milliseconds(times.paint)}
          </button>
        ) : null}
        <button
          type="button"
          class="icon-button pane-max"
          tabIndex={-1}
          title="Fill the page with this pane, or put it back (double-click on a tab)"
          onClick={() => {
            maximised.value = maximised.peek() ? null : view.id;
          }}
        >
          <Icon name="maximise" />
        </button>
      </div>
      <div class="pane-body" role="tabpanel" id={name}>
        <PaneTimes.Provider value={tell}>
          <Body key={view.id} argument={tab.argument} />
        </PaneTimes.Provider>
      </div>
      {drop ? <div class={`drop drop-${drop}`} /> : null}
    </section>
  );
}

function TimeParts({ times }: { times: Times }) {
  const server = times.server ?? {};
  const total = (server.total ?? 0) + (server.queue ?? 0);
  const rest = Math.max(0, times.paint - total);
  const parts = Object.entries(server).map(([name, time]) => `${name} ${milliseconds(time)}`);
  return <>{[...parts, `transfer and drawing ${milliseconds(rest)}`].join(" · ")}</>;
}
