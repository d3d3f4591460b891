// One WebSocket: asks, streams, cancels, and connects again when the server was gone.

import { signal } from "@preact/signals";
import type { End, Failure, Focus, Progress } from "./types";

export interface Question {
  question: string;
  arguments?: Record<string, unknown>;
  focus?: Focus | null;
  window?: { before: number; after: number };
  cursor?: string;
  deadline?: number;
}

export interface Listener {
  rows?(rows: unknown[]): void;
  progress?(progress: Progress): void;
  end(end: End): void;
}

/** What the user sees at once is asked for first. */
const FIRST = ["overview", "state", "source", "lines", "stack", "variables"];

const RETRY_MS = [200, 400, 800, 1600, 3000];

export const connected = signal<"connecting" | "open" | "lost">("connecting");
/** Grows with each connection: everything that is shown is asked for again. */
export const epoch = signal(0);
/** Questions without an end. */
export const pending = signal(0);
export const hello = signal<{ program?: string; token?: string }>({});
/** Grows whenever somebody changes bookmarks. */
export const bookmarksChanged = signal(0);

interface Open {
  question: Question;
  listener: Listener;
  sent: boolean;
}

let socket: WebSocket | null = null;
let next = 1;
let failures = 0;
const open = new Map<number, Open>();
let flushing = false;

export function connect(): void {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const mine = new WebSocket(`${scheme}//${location.host}/ask`);
  socket = mine;
  mine.onopen = () => {
    failures = 0;
    connected.value = "open";
    epoch.value += 1;
    flush();
  };
  mine.onmessage = (event) => receive(String(event.data));
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = null;
    connected.value = "lost";
    const lost = [...open.values()].filter((it) => it.sent);
    for (const [number, it] of open) if (it.sent) open.delete(number);
    count();
    for (const it of lost) it.listener.end({ end: "lost" });
    const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 3000;
    failures += 1;
    setTimeout(connect, wait);
  };
}

/** Asks a question; the result cancels it. */
export function ask(question: Question, listener: Listener): () => void {
  const number = next++;
  open.set(number, { question, listener, sent: false });
  count();
  if (!flushing) {
    flushing = true;
    queueMicrotask(flush);
  }
  return () => {
    const it = open.get(number);
    if (!it) return;
    open.delete(number);
    count();
    if (it.sent && socket?.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ cancel: number }));
    }
  };
}

/** All rows of a question that is not worth showing in pieces. */
export function askAll<R>(question: Question): Promise<R[]> {
  return new Promise((resolve, reject: (failure: Failure) => void) => {
    const all: R[] = [];
    ask(question, {
      rows: (rows) => all.push(...(rows as R[])),
      end: (end) => {
        if (end.error) reject(end.error);
        else if (end.end === "lost") reject({ code: "lost", what: "The server is gone" });
        else resolve(all);
      },
    });
  });
}

function flush(): void {
  flushing = false;
  if (socket?.readyState !== WebSocket.OPEN) return;
  const rank = (it: Open) => {
    const at = FIRST.indexOf(it.question.question);
    return at < 0 ? FIRST.length : at;
  };
  const unsent = [...open].filter(([, it]) => !it.sent);
  unsent.sort(([, a], [, b]) => rank(a) - rank(b));
  for (const [number, it] of unsent) {
    it.sent = true;
    socket.send(JSON.stringify({ ask: number, ...it.question }));
  }
}

function receive(text: string): void {
  let message: Record<string, unknown>;
  try {
    message = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return;
  }
  if (message.hello) hello.value = message.hello as { program?: string };
  if (message.changed === "bookmarks") bookmarksChanged.value += 1;
  const it = open.get(message.ask as number);
  if (!it) return;
  if (Array.isArray(message.rows)) it.listener.rows?.(message.rows);
  if (message.progress) it.listener.progress?.(message.progress as Progress);
  if (message.end) {
    open.delete(message.ask as number);
    it.listener.end(message as unknown as End);
    count();
  }
}

function count(): void {
  pending.value = open.size;
}
