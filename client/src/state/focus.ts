// The focus: one moment, task and frame, and the data that was asked about last. Everything that
// is shown follows from it and from the layout, and both are in the URL.

import { batch, computed, signal } from "@preact/signals";
import { acted } from "../protocol/use_answer";
import type { Focus, Place, Target } from "../protocol/types";

/** A value that was picked, and where: its name means something else elsewhere. */
export interface Data {
  text: string;
  at: Focus;
}

export interface Whole {
  focus: Focus;
  data: Data | null;
}

/** Null until the place to start is known. */
export const whole = signal<Whole | null>(null);
export const focus = computed<Focus | null>(() => whole.value?.focus ?? null);
export const data = computed<Data | null>(() => whole.value?.data ?? null);
export const moment = computed<number>(() => Number(focus.value?.moment ?? 0));

/** The focus that has been made whole by the server, as a key. */
export const ready = signal("");
/**
 * The focus once its frame is known, or that there is none: what depends on the frame is asked
 * then, and not twice.
 */
export const settled = computed<Focus | null>(() => {
  const now = focus.value;
  return now && (now.frame || ready.value === focusKey(now)) ? now : null;
});

/** Where the focus is, once that was answered; for the header and the trail. */
export const here = signal<{ place: Place | null; key: string }>({ place: null, key: "" });

/** What was last said about a move: shown for a while and read out. */
export const said = signal<{ text: string; number: number }>({ text: "", number: 0 });

export function say(text: string): void {
  said.value = { text, number: said.peek().number + 1 };
}

/** The focus that a row's target means, seen from here. */
export function resolve(target: Target, from: Whole | null = whole.peek()): Whole | null {
  const moment = target.moment ?? from?.focus.moment;
  if (moment === undefined) return null;
  const stays = target.moment === undefined || target.moment === from?.focus.moment;
  const frame = target.frame !== undefined ? target.frame : stays ? from?.focus.frame : null;
  const task = target.task ?? from?.focus.task;
  const focus: Focus = { moment };
  if (task !== undefined) focus.task = task;
  if (frame) focus.frame = frame;
  let data = from?.data ?? null;
  if (target.data !== undefined) {
    data = target.data === null ? null : { text: target.data, at: from?.focus ?? focus };
    if (data && target.moment !== undefined) data.at = focus;
  }
  return { focus, data };
}

export const focusKey = (it: Focus | null): string =>
  it ? `${it.moment}/${it.task ?? ""}/${it.frame ?? ""}` : "";

type Mover = (next: Whole, replace: boolean) => void;
let mover: Mover = (next) => {
  whole.value = next;
};
/** Set once, by the module that keeps the URL. */
export function onMove(it: Mover): void {
  mover = it;
}

/** Moves the focus, as a step that Back undoes; perhaps it is known already to where. */
export function go(target: Target, place?: Place): void {
  const next = resolve(target);
  if (!next) return;
  acted();
  batch(() => {
    mover(next, false);
    if (place) here.value = { place, key: focusKey(next.focus) };
  });
}
