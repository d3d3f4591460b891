// Source: what ran here, with what values?

import type { VNode } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Empty, Failed, Loading, Skeleton } from "../parts/states";
import { fileName, grouped, plural } from "../parts/text";
import type { Line, SourceText } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { Colours, type Token } from "../source/colours";
import { findAsked } from "../state/commands";
import { go, here, settled } from "../state/focus";
import { show } from "../state/layout";
import { inlineValues } from "../state/settings";
import { Find } from "./source/find";
import { useHover } from "./source/hover";
import type { ViewProperties } from "./registry";

const ROW_PX = 20;
const SPARE_LINES = 14;
const PAD_LINES = 3;

type Languages = typeof import("../source/languages");
let languages: Promise<Languages> | null = null;

/** `/src/a.c:51`, of the argument of a pinned view. */
function pinned(argument: string | undefined): { file: string; line: number } | null {
  const found = /^(.+?)(?::(\d+))?$/.exec(argument ?? "");
  return found?.[1] ? { file: found[1], line: Number(found[2] ?? 0) } : null;
}

export function SourceView({ argument }: ViewProperties) {
  const pin = pinned(argument);
  const place = here.value.place;
  const file = pin?.file ?? place?.file;
  const line = pin ? pin.line : (place?.line ?? 0);
  const text = useAnswer<SourceText>(
    file ? { question: "source", arguments: { file } } : null,
  );
  const row = text.rows[0];
  if (!file) {
    if (!place) return <Skeleton rows={12} />;
    return (
      <Empty>
        <p>
          No line of a source file belongs to {place.function ? <b>{place.function}</b> : "this code"}
          {place.module ? ` in ${fileName(place.module)}` : ""}.
        </p>
        <p>
          <button type="button" class="text-button" onClick={() => show("disassembly")}>
            Show its instructions
          </button>
          {" or go up to a caller with Alt ↑."}
        </p>
      </Empty>
    );
  }
  if (text.error) return <Failed answer={text} />;
  if (!row && text.loading) return <Skeleton rows={12} />;
  if (row && row.text === undefined) {
    const directory = file.slice(0, Math.max(0, file.lastIndexOf("/")));
    return (
      <Empty>
        <p>
          The text of <code>{file}</code> is not here.
        </p>
        {row.tried && row.tried.length > 0 ? (
          <ul class="tried">
            {row.tried.map((it) => (
              <li key={it}>
                <code>{it}</code>
              </li>
            ))}
          </ul>
        ) : null}
        <p>
          If you have it elsewhere, start the server with{" "}
          {directory.startsWith("/") ? (
            <>
              <code>--sources {directory}=/WHERE/IT/IS</code>, or the directory alone.
            </>
          ) : (
            <>
              <code>--sources /WHERE/IT/IS</code>, the directory that it is in.
            </>
          )}
        </p>
        <p>
          <button type="button" class="text-button" onClick={() => show("disassembly")}>
            Show the instructions instead
          </button>
        </p>
      </Empty>
    );
  }
  return (
    <Text
      key={file}
      file={file}
      text={row?.text ?? ""}
      line={line}
      follows={pin === null}
      loading={text}
    />
  );
}

interface TextProperties {
  file: string;
  text: string;
  line: number;
  follows: boolean;
  loading: ReturnType<typeof useAnswer<SourceText>>;
}

function Text({ file, text, line, follows, loading }: TextProperties) {
  const lines = useMemo(() => text.replaceAll("\r", "").split("\n"), [text]);
  const [colours, setColours] = useState(() => new Colours(lines, null));
  const [, redraw] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState({ from: 0, to: 60 });
  const [active, setActive] = useState(0);
  const [finding, setFinding] = useState(false);
  const hover = useHover(lines);
  const now = settled.value;
  const at = here.value;
  const current = follows || at.place?.file === file ? (at.place?.line ?? 0) : 0;

  useEffect(() => {
    languages ??= import("../source/languages");
    let live = true;
    void languages.then((it) => live && setColours(new Colours(lines, it.languageOf(file))));
    return () => {
      live = false;
    };
  }, [lines, file]);

  const measure = () => {
    const it = box.current;
    if (!it) return;
    const from = Math.max(0, Math.floor(it.scrollTop / ROW_PX) - SPARE_LINES);
    const to = Math.min(lines.length, Math.ceil((it.scrollTop + it.clientHeight) / ROW_PX) + SPARE_LINES);
    setRange((old) => (old.from === from && old.to === to ? old : { from, to }));
  };
  useLayoutEffect(() => {
    const it = box.current;
    if (!it) return;
    const observer = new ResizeObserver(measure);
    observer.observe(it);
    return () => observer.disconnect();
  }, [lines]);

  // The line of the focus comes into sight, by a jump only if it is far.
  useLayoutEffect(() => {
    const it = box.current;
    if (!it || line <= 0) return;
    const y = (line - 1) * ROW_PX;
    const margin = PAD_LINES * ROW_PX;
    if (y < it.scrollTop + margin || y > it.scrollTop + it.clientHeight - margin - ROW_PX) {
      it.scrollTop = Math.max(0, y - it.clientHeight / 2 + ROW_PX);
    }
    setActive(line);
    measure();
  }, [line, file, at.key]);

  // Far lines are coloured once the ones before have been read.
  useEffect(() => {
    let live = true;
    const on = () => {
      if (!live || colours.reach(range.to, 4000)) {
        if (live) redraw((n) => n + 1);
        return;
      }
      setTimeout(on, 0);
    };
    if (!colours.reach(range.to, 0)) on();
    return () => {
      live = false;
    };
  }, [colours, range.to]);

  // In steps, so that scrolling asks seldom.
  const step = 50;
  const from = Math.max(1, Math.floor(range.from / step) * step + 1);
  const to = Math.min(lines.length, Math.ceil(range.to / step) * step);
  const marks = useAnswer<Line>(
    now && to >= from
      ? {
          question: "lines",
          arguments: { file, from, to },
          focus: now,
          window: { before: 0, after: 1000 },
        }
      : null,
  );
  const byLine = useMemo(() => new Map(marks.rows.map((it) => [it.line, it])), [marks.rows.length, marks.end, marks.rows[0]]);
  const most = Math.max(1, ...marks.rows.map((it) => it.count ?? 0));

  useEffect(() => {
    if (findAsked.value > 0) setFinding(true);
  }, [findAsked.value]);

  const reveal = (target: number) => {
    const it = box.current;
    if (it) it.scrollTop = Math.max(0, (target - 1) * ROW_PX - it.clientHeight / 2);
    setActive(target);
  };
  const toLine = (target: number) => {
    const mark = byLine.get(target);
    if (mark?.mark === "strong" && mark.moment) go(mark.focus ?? { moment: mark.moment });
    else if (mark?.mark === "weak") show("executions", `line:${file}:${target}:call`);
    else if (mark?.code) show("executions", `line:${file}:${target}`);
  };
  const keys = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor((box.current?.clientHeight ?? 400) / ROW_PX) - 2);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[event.key];
    if (event.altKey) return;
    if (by) {
      const next = Math.max(1, Math.min(lines.length, active + by));
      setActive(next);
      const it = box.current;
      if (it) {
        const y = (next - 1) * ROW_PX;
        if (y < it.scrollTop) it.scrollTop = y;
        if (y + ROW_PX > it.scrollTop + it.clientHeight) it.scrollTop = y + ROW_PX - it.clientHeight;
      }
    } else if (event.key === "Enter") toLine(active);
    else return;
    event.preventDefault();
  };

  const toLineNow = useRef(toLine);
  toLineNow.current = toLine;
  const clicked = useCallback((target: number) => toLineNow.current(target), []);
  // A line that has not changed is the same element, which costs nothing to draw again.
  const kept = useRef(new Map<number, { drawn: LineProperties; element: VNode }>());
  const lineOf = (number: number, drawn: LineProperties) => {
    const old = kept.current.get(number);
    if (old && same(old.drawn, drawn)) return old.element;
    const element = <SourceLine key={number} {...drawn} />;
    if (kept.current.size > 1000) kept.current.clear();
    kept.current.set(number, { drawn, element });
    return element;
  };

  return (
    <div class="source">
      <div class="source-head">
        <span class="source-file" title={file}>
          {fileName(file)}
        </span>
        <span class="dim source-path">{file.slice(0, Math.max(0, file.lastIndexOf("/")))}</span>
        {!follows ? (
          <button type="button" class="text-button" onClick={() => show("source", null)}>
            Back to the focus
          </button>
        ) : null}
        {follows && at.place?.function ? (
          <span class="dim source-function">in {at.place.function}</span>
        ) : null}
      </div>
      {finding ? <Find lines={lines} reveal={reveal} close={() => setFinding(false)} /> : null}
      <Loading answer={marks.slow ? marks : loading} />
      {marks.error ? <div class="source-note">{marks.error.what}</div> : null}
      <div
        class="source-text"
        ref={box}
        role="grid"
        aria-label={`Source ${fileName(file)}`}
        aria-rowcount={lines.length}
        aria-activedescendant={active > 0 ? `source-${active}` : undefined}
        tabIndex={0}
        data-home
        onScroll={measure}
        onKeyDown={keys}
        {...hover.handlers}
      >
        <div class="source-rows" style={{ height: `${lines.length * ROW_PX}px` }}>
          {Array.from({ length: range.to - range.from }, (_, n) => {
            const number = range.from + n + 1;
            const drawn: LineProperties = {
              number,
              file,
              tokens: colours.line(number - 1),
              mark: byLine.get(number),
              most,
              stale: marks.slow,
              current: number === current,
              active: number === active,
              click: clicked,
            };
            return lineOf(number, drawn);
          })}
        </div>
      </div>
      {hover.popup}
    </div>
  );
}

function same(a: LineProperties, b: LineProperties): boolean {
  return (Object.keys(a) as (keyof LineProperties)[]).every((key) => a[key] === b[key]);
}

interface LineProperties {
  number: number;
  file: string;
  tokens: Token[];
  mark: Line | undefined;
  most: number;
  stale: boolean;
  current: boolean;
  active: boolean;
  click(line: number): void;
}

function SourceLine(properties: LineProperties) {
  const { number, file, tokens, mark, current, most } = properties;
  const classes = ["source-line"];
  if (mark?.mark) classes.push(mark.mark);
  if (current) classes.push("current");
  if (properties.active) classes.push("active");
  if (properties.stale) classes.push("stale");
  const never = mark?.code && Number(mark.run ?? 0) === 0;
  if (never) classes.push("never");
  const count = mark?.count ?? 0;
  const values = inlineValues.value === "on" ? (mark?.values ?? []) : [];
  const title =
    mark?.mark === "strong"
      ? "Ran in this iteration: click goes there"
      : mark?.mark === "weak"
        ? "Ran in this call, in another iteration: click lists when"
        : never
          ? "Never ran"
          : undefined;
  const bar = count > 1 ? { width: `${Math.max(2, (Math.log(count + 1) / Math.log(most + 1)) * 26)}px` } : {};
  return (
    <div
      id={`source-${number}`}
      class={classes.join(" ")}
      role="row"
      aria-rowindex={number}
      aria-current={current ? "true" : undefined}
      style={{ top: `${(number - 1) * ROW_PX}px` }}
      data-line={number}
    >
      <button
        type="button"
        class="source-count"
        tabIndex={-1}
        disabled={!mark?.code}
        title={
          mark?.code
            ? `${plural(count, "time")} in this call, ${mark.about ? "about " : ""}${grouped(mark.run ?? 0)} in the run. Click lists them`
            : undefined
        }
        onClick={() => show("executions", `line:${file}:${number}`)}
      >
        {count > 1 ? <span class="source-bar" style={bar} /> : null}
        {count > 1 ? `x${grouped(count)}` : ""}
      </button>
      <button
        type="button"
        class="source-number"
        tabIndex={-1}
        disabled={!mark?.code}
        title={mark?.code ? "Executions of this line" : undefined}
        onClick={() => show("executions", `line:${file}:${number}`)}
      >
        {number}
      </button>
      <button
        type="button"
        class="source-mark"
        tabIndex={-1}
        title={title}
        aria-label={title ?? `line ${number}`}
        disabled={!mark?.mark}
        onClick={() => properties.click(number)}
      >
        <span class="mark" />
        {current ? <span class="source-arrow" /> : null}
      </button>
      <span class="source-code">
        {tokens.map((it, n) => (
          <span key={n} class={it.kind ? `t-${it.kind.replace(" ", " t-")}` : undefined}>
            {it.text}
          </span>
        ))}
        {values.length > 0 ? (
          <span class="inline-values">
            {values.slice(0, 3).map((it) => (
              <span key={it.name} class={it.changed ? "inline-value inline-changed" : "inline-value"}>
                <span class="inline-name">{it.name}</span> {it.text.length > 40 ? `${it.text.slice(0, 39)}…` : it.text}
              </span>
            ))}
          </span>
        ) : null}
      </span>
    </div>
  );
}

