// Output: what was printed. A click on a character leads to the code that printed it.

import { useMemo, useRef, useState } from "preact/hooks";
import { States } from "../parts/states";
import { ask } from "../protocol/connection";
import type { Output, Row } from "../protocol/types";
import { acted, useAnswer } from "../protocol/use_answer";
import { go, moment, say } from "../state/focus";

interface Piece {
  row: Output;
  text: string;
  /** Where in its stream the piece begins, in bytes. */
  offset: number;
}

const bytesOf = (text: string) => new TextEncoder().encode(text).length;

/** Lines of the screen, each of pieces of what was written. */
function lines(rows: Output[]): Piece[][] {
  const all: Piece[][] = [[]];
  for (const row of rows) {
    const text = row.text ?? (row.bytes ? `‹${row.bytes}›` : "");
    let offset = Number(row.offset);
    text.split("\n").forEach((part, n) => {
      if (n > 0) {
        offset += 1;
        all.push([]);
      }
      if (part) all.at(-1)?.push({ row, text: part, offset });
      offset += bytesOf(part);
    });
  }
  if (all.at(-1)?.length === 0) all.pop();
  return all;
}

export function OutputView() {
  const answer = useAnswer<Output>({ question: "output", window: { before: 5000, after: 5000 } });
  const now = moment.value;
  const shown = useMemo(() => lines(answer.rows), [answer.rows.length, answer.end]);
  const box = useRef<HTMLDivElement>(null);
  const [cursor, setCursor] = useState<{ line: number; column: number } | null>(null);

  const printed = (piece: Piece, at: number) => {
    acted();
    const offset = piece.offset + bytesOf(piece.text.slice(0, at));
    const write = () => go(piece.row.focus ?? { moment: piece.row.moment ?? "0" });
    let found = false;
    ask(
      { question: "printed", arguments: { descriptor: piece.row.descriptor, offset } },
      {
        rows: (rows) => {
          const row = rows[0] as Row | undefined;
          if (!row || found) return;
          found = true;
          go(row.focus ?? { moment: row.moment ?? "0" });
        },
        end: (end) => {
          if (found) return;
          if (end.error) say(`${end.error.what}: this is where it was written`);
          write();
        },
      },
    );
  };
  const click = (event: MouseEvent) => {
    const element = (event.target as HTMLElement).closest<HTMLElement>("[data-piece]");
    if (!element || window.getSelection()?.toString()) return;
    const [line = 0, n = 0] = (element.dataset.piece ?? "").split(".").map(Number);
    const piece = shown[line]?.[n];
    if (!piece) return;
    const caret = document.caretRangeFromPoint?.(event.clientX, event.clientY);
    let at = caret && element.contains(caret.startContainer) ? caret.startOffset : 0;
    // A caret lies between two characters: the one that was clicked may be before it.
    if (caret && at > 0) {
      const range = document.createRange();
      range.setStart(caret.startContainer, at - 1);
      range.setEnd(caret.startContainer, at);
      if (event.clientX < range.getBoundingClientRect().right) at -= 1;
    }
    const before = (shown[line] ?? []).slice(0, n).reduce((sum, it) => sum + it.text.length, 0);
    setCursor({ line, column: before + at });
    if (event.altKey) go(piece.row.focus ?? { moment: piece.row.moment ?? "0" });
    else printed(piece, Math.min(at, piece.text.length - 1));
  };
  const length = (line: number) => (shown[line] ?? []).reduce((sum, it) => sum + it.text.length, 0);
  const keys = (event: KeyboardEvent) => {
    if (event.altKey || shown.length === 0) return;
    const at = cursor ?? { line: 0, column: 0 };
    let { line, column } = at;
    if (!cursor && event.key.startsWith("Arrow")) line = column = 0;
    else if (event.key === "ArrowDown") line++;
    else if (event.key === "ArrowUp") line--;
    else if (event.key === "ArrowRight") column++;
    else if (event.key === "ArrowLeft") column--;
    else if (event.key === "Home") column = 0;
    else if (event.key === "End") column = length(line) - 1;
    else if (event.key === "Enter") {
      let left = at.column;
      for (const piece of shown[at.line] ?? []) {
        if (left < piece.text.length) {
          printed(piece, left);
          break;
        }
        left -= piece.text.length;
      }
    } else return;
    event.preventDefault();
    line = Math.max(0, Math.min(shown.length - 1, line));
    column = Math.max(0, Math.min(length(line) - 1, column));
    setCursor({ line, column });
    box.current?.querySelectorAll(".output-line")[line]?.scrollIntoView({ block: "nearest" });
  };
  return (
    <States answer={answer} empty="The program printed nothing.">
      <div
        class="output"
        role="textbox"
        aria-readonly="true"
        aria-multiline="true"
        aria-label="Output"
        tabIndex={0}
        data-home
        ref={box}
        onClick={click}
        onKeyDown={keys}
      >
        {shown.map((pieces, line) => {
          let column = 0;
          return (
            <div class="output-line" key={line}>
              {pieces.map((piece, n) => {
                const from = column;
                column += piece.text.length;
                const classes = ["output-piece"];
                if (piece.row.descriptor === 2) classes.push("stderr");
                if (Number(piece.row.moment) > now) classes.push("future");
                const inside = cursor?.line === line && cursor.column >= from && cursor.column < column;
                const at = inside ? cursor.column - from : -1;
                return (
                  <span
                    key={n}
                    class={classes.join(" ")}
                    data-piece={`${line}.${n}`}
                    title={piece.row.descriptor === 2 ? "Standard error" : undefined}
                  >
                    {inside ? (
                      <>
                        {piece.text.slice(0, at)}
                        <mark class="output-cursor">{piece.text[at]}</mark>
                        {piece.text.slice(at + 1)}
                      </>
                    ) : (
                      piece.text
                    )}
                  </span>
                );
              })}
              {pieces.length === 0 ? " " : ""}
            </div>
          );
        })}
        {answer.end?.after ? (
          <div class="table-note">
            <button type="button" class="text-button" onClick={() => answer.more("after")}>
              Load more
            </button>
          </div>
        ) : null}
      </div>
    </States>
  );
}
