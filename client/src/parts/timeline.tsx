// The strip of the whole run: who ran when, alerts, output, notes, the focus. A click goes there.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Alert, Bookmark, Output, Overview, Task } from "../protocol/types";
import { bookmarksChanged } from "../protocol/connection";
import { useAnswer } from "../protocol/use_answer";
import { focus, go, moment } from "../state/focus";
import { theme } from "../state/settings";
import { grouped } from "./text";

const LABEL_PX = 148;
const LANE_PX = 14;
const MARKS_PX = 18;
const LANES_MAX = 8;
const RIGHT_PX = 12;

interface Mark {
  moment: number;
  kind: "alert" | "output" | "note";
  text: string;
  colour?: string | null | undefined;
}

export function Timeline() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [point, setPoint] = useState<{ x: number; text: string } | null>(null);
  const overview = useAnswer<Overview>({ question: "overview" }).rows[0];
  const all = useAnswer<Task>({ question: "tasks", window: { before: 0, after: 5000 } }).rows;
  const alerts = useAnswer<Alert>({ question: "alerts", window: { before: 1000, after: 1000 } }).rows;
  const output = useAnswer<Output>({ question: "output", window: { before: 5000, after: 5000 } }).rows;
  const notes = useAnswer<Bookmark>({ question: "bookmarks" }, bookmarksChanged.value).rows;
  const total = Math.max(1, Number(overview?.instructions ?? 1));
  const sealed = Number(overview?.sealed ?? total);
  const now = moment.value;
  const task = focus.value?.task;
  const current = all.find((it) => it.task === task);
  // Many tasks: the focus's own and the longest.
  const tasks =
    all.length <= LANES_MAX
      ? all
      : [...all]
          .sort((a, b) => Number(b.task === task) - Number(a.task === task) || ran(b) - ran(a))
          .slice(0, LANES_MAX - 1)
          .sort((a, b) => a.task - b.task);
  const folded = all.length - tasks.length;
  const lanes = tasks.length + (folded > 0 ? 1 : 0);
  const height = MARKS_PX + Math.max(1, lanes) * LANE_PX + 6;

  useLayoutEffect(() => {
    const it = canvas.current?.parentElement;
    if (!it) return;
    const observer = new ResizeObserver(() => setWidth(it.clientWidth));
    observer.observe(it);
    setWidth(it.clientWidth);
    return () => observer.disconnect();
  }, []);

  const from = LABEL_PX;
  const span = Math.max(1, width - from - RIGHT_PX);
  const x = (at: number) => from + (at / total) * span;
  const marks: Mark[] = [
    ...output.map((it): Mark => ({ moment: Number(it.moment), kind: "output", text: (it.text ?? "").trim() })),
    ...notes.map((it): Mark => ({ moment: Number(it.moment), kind: "note", text: it.text, colour: it.colour })),
    ...alerts.map((it): Mark => ({ moment: Number(it.moment), kind: "alert", text: it.text })),
  ];

  useEffect(() => {
    const it = canvas.current;
    const context = it?.getContext("2d");
    if (!it || !context || width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    it.width = Math.round(width * ratio);
    it.height = Math.round(height * ratio);
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    context.clearRect(0, 0, width, height);
    context.font = `11px ${style.getPropertyValue("--sans")}`;
    context.textBaseline = "middle";
    tasks.forEach((it, lane) => {
      const y = MARKS_PX + lane * LANE_PX;
      const own = it.task === task;
      context.fillStyle = colour(own ? "text" : "dim");
      context.font = `${own ? "600 " : ""}11px ${style.getPropertyValue("--sans")}`;
      context.fillText(clip(context, `${it.tid} ${it.name ?? "task"}`, LABEL_PX - 26), 20, y + LANE_PX / 2);
      context.fillStyle = colour(`task-${(it.task - 1) % 6}`);
      context.fillRect(10, y + 4, 5, 6);
      context.globalAlpha = 0.22;
      context.fillRect(x(Number(it.begin)), y + 6, Math.max(1, x(Number(it.end)) - x(Number(it.begin))), 2);
      context.globalAlpha = own ? 1 : 0.75;
      const runs = it.runs ?? [it.begin, it.end];
      for (let n = 0; n + 1 < runs.length; n += 2) {
        const left = x(Number(runs[n]));
        context.fillRect(left, y + 2, Math.max(1, x(Number(runs[n + 1])) - left), LANE_PX - 4);
      }
      context.globalAlpha = 1;
    });
    if (folded > 0) {
      context.fillStyle = colour("dim");
      context.fillText(`+ ${folded} more tasks`, 20, MARKS_PX + tasks.length * LANE_PX + LANE_PX / 2);
    }
    if (sealed < total) {
      context.fillStyle = colour("raised");
      context.fillRect(x(sealed), MARKS_PX, x(total) - x(sealed), height - MARKS_PX);
      context.fillStyle = colour("warn");
      context.fillText("not built yet", x(sealed) + 6, MARKS_PX + LANE_PX / 2);
    }
    drawMarks(context, marks, x, colour);
    context.strokeStyle = colour("accent");
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x(now), 2);
    context.lineTo(x(now), height - 2);
    context.stroke();
    context.fillStyle = colour("accent");
    context.beginPath();
    context.moveTo(x(now) - 5, 0);
    context.lineTo(x(now) + 5, 0);
    context.lineTo(x(now), 7);
    context.fill();
  });

  const at = (event: MouseEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const px = event.clientX - box.left;
    const inside = Math.max(0, Math.min(total, Math.round(((px - from) / span) * total)));
    return { px, y: event.clientY - box.top, inside };
  };
  const near = (px: number) => {
    let best: Mark | null = null;
    for (const mark of marks) {
      const distance = Math.abs(x(mark.moment) - px);
      if (distance < 5 && (!best || distance <= Math.abs(x(best.moment) - px))) best = mark;
    }
    return best;
  };
  const click = (event: MouseEvent) => {
    const { px, y, inside } = at(event);
    if (px < from - 4) {
      const lane = tasks[Math.floor((y - MARKS_PX) / LANE_PX)];
      if (lane) go({ moment: String(Math.min(now, Number(lane.end))), task: lane.task, frame: null });
      return;
    }
    const mark = y < MARKS_PX ? near(px) : null;
    const moment = mark?.moment ?? Math.min(inside, sealed);
    const runs = all.find((it) => runsAt(it, moment));
    go({ moment: String(moment), ...(runs ? { task: runs.task } : {}), frame: null });
  };
  const keys = (event: KeyboardEvent) => {
    const step = Math.max(1, Math.round(total / 200));
    const by = { ArrowLeft: -step, ArrowRight: step, PageUp: -10 * step, PageDown: 10 * step }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? sealed : by ? now + by : null;
    if (to === null || event.altKey) return;
    event.preventDefault();
    const moment = Math.max(0, Math.min(sealed, to));
    const runs = all.find((it) => runsAt(it, moment));
    go({ moment: String(moment), ...(runs ? { task: runs.task } : {}), frame: null });
  };
  return (
    <div
      class="timeline"
      role="slider"
      tabIndex={0}
      aria-label="The run"
      aria-valuemin={0}
      aria-valuemax={total}
      aria-valuenow={now}
      aria-valuetext={`moment ${grouped(now)} of ${grouped(total)}${current ? `, ${current.name} ${current.tid}` : ""}`}
      style={{ height: `${height}px` }}
      onClick={click}
      onKeyDown={keys}
      onMouseMove={(event) => {
        const { px, inside } = at(event);
        if (px < from) setPoint(null);
        else {
          const mark = near(px);
          const text = mark ? `${grouped(mark.moment)}  ${mark.text}` : grouped(inside);
          setPoint({ x: px, text: text.slice(0, 80) });
        }
      }}
      onMouseLeave={() => setPoint(null)}
    >
      <canvas ref={canvas} />
      <span class="timeline-name">Run</span>
      {point ? (
        <>
          <span class="timeline-line" style={{ left: `${point.x}px` }} />
          <span class="timeline-point" style={{ left: `${Math.min(point.x + 8, width - 240)}px` }}>
            {point.text}
          </span>
        </>
      ) : null}
      <span class="visually-hidden">{theme.value}</span>
    </div>
  );
}

const ran = (task: Task) => Number(task.end) - Number(task.begin);

function runsAt(task: Task, at: number): boolean {
  const runs = task.runs;
  if (!runs) return Number(task.begin) <= at && at <= Number(task.end);
  for (let n = 0; n + 1 < runs.length; n += 2) {
    if (Number(runs[n]) <= at && at < Number(runs[n + 1])) return true;
  }
  return false;
}

function clip(context: CanvasRenderingContext2D, text: string, most: number): string {
  if (context.measureText(text).width <= most) return text;
  let short = text;
  while (short.length > 1 && context.measureText(`${short}…`).width > most) short = short.slice(0, -1);
  return `${short}…`;
}

/** Marks nearer than a few pixels are one. */
function drawMarks(
  context: CanvasRenderingContext2D,
  marks: Mark[],
  x: (at: number) => number,
  colour: (name: string) => string,
): void {
  const last = new Map<string, number>();
  for (const mark of [...marks].sort((a, b) => a.moment - b.moment)) {
    const left = x(mark.moment);
    const before = last.get(mark.kind) ?? -99;
    if (mark.kind === "output" && left - before < 3) continue;
    if (mark.kind === "alert" && left - before < 8) continue;
    last.set(mark.kind, left);
    if (mark.kind === "output") {
      context.fillStyle = colour("edge");
      context.fillRect(left - 1, 11, 2, 5);
    } else if (mark.kind === "note") {
      context.fillStyle = colour(mark.colour ? `note-${mark.colour}` : "accent");
      context.beginPath();
      context.moveTo(left - 4, 3);
      context.lineTo(left + 4, 3);
      context.lineTo(left + 4, 14);
      context.lineTo(left, 10);
      context.lineTo(left - 4, 14);
      context.fill();
    } else {
      context.fillStyle = colour("error");
      context.beginPath();
      context.moveTo(left, 2);
      context.lineTo(left + 6, 14);
      context.lineTo(left - 6, 14);
      context.fill();
      context.fillStyle = colour("bg");
      context.fillRect(left - 0.75, 6, 1.5, 4);
      context.fillRect(left - 0.75, 11, 1.5, 1.5);
    }
  }
}
