// Notes: moments that were kept, with a text. All who look at this recording see them.

import { useEffect, useState } from "preact/hooks";
import { Icon } from "../parts/icons";
import { Link } from "../parts/link";
import { Marked } from "../parts/marked";
import { States } from "../parts/states";
import { grouped, placeText } from "../parts/text";
import { askAll, bookmarksChanged } from "../protocol/connection";
import type { Bookmark } from "../protocol/types";
import { useAnswer } from "../protocol/use_answer";
import { onKeep } from "../state/commands";
import { focus, here, moment, say } from "../state/focus";
import { show } from "../state/layout";

const COLOURS = ["blue", "yellow", "pink", "green", "violet", "cyan"];

export function useNotes() {
  return useAnswer<Bookmark>({ question: "bookmarks" }, bookmarksChanged.value);
}

/** Keeps the moment of the focus, and opens its text. */
let editNext = 0;
export function listenToKeep(): void {
  onKeep(() => {
    const now = focus.peek();
    if (!now) return;
    const { moment, task = 1, frame } = now;
    const place = placeText(here.peek().place);
    const bookmark = { moment, task, ...(frame ? { frame } : {}), text: "", ...(place ? { place } : {}) };
    askAll<{ bookmark: number }>({ question: "bookmark-add", arguments: bookmark }).then(
      (rows) => {
        editNext = rows[0]?.bookmark ?? 0;
        show("notes");
        say("Kept");
      },
      (failure: { what?: string }) => say(failure.what ?? "The note could not be kept"),
    );
  });
}

export function NotesView() {
  const answer = useNotes();
  const now = moment.value;
  return (
    <States
      answer={answer}
      empty={
        <p>
          No notes yet. Press <kbd>b</kbd> to keep the moment you are at, with a text.
        </p>
      }
    >
      <div class="notes" role="list" tabIndex={0} data-home>
        {answer.rows.map((it) => (
          <Note key={it.bookmark} note={it} current={Number(it.moment) === now} future={Number(it.moment) > now} />
        ))}
      </div>
    </States>
  );
}

function Note({ note, current, future }: { note: Bookmark & { place?: unknown }; current: boolean; future: boolean }) {
  const [text, setText] = useState(note.text);
  const [editing, setEditing] = useState(editNext === note.bookmark);
  useEffect(() => setText(note.text), [note.text]);
  useEffect(() => {
    if (editNext === note.bookmark) editNext = 0;
  }, []);
  const change = (more: Partial<Bookmark>) => {
    const { bookmark, moment, task } = note;
    const next = { bookmark, moment, task, text, ...(note.colour ? { colour: note.colour } : {}), ...more };
    askAll({ question: "bookmark-add", arguments: next }).catch((failure: { what?: string }) =>
      say(failure.what ?? "The note could not be kept"),
    );
  };
  const remove = () => {
    askAll({ question: "bookmark-remove", arguments: { bookmark: note.bookmark } }).catch(() => say("It is gone already"));
  };
  const done = () => {
    setEditing(false);
    if (text !== note.text) change({ text });
  };
  const classes = ["note"];
  if (current) classes.push("current");
  if (future) classes.push("future");
  return (
    <div class={classes.join(" ")} role="listitem" data-colour={note.colour ?? ""}>
      <Link to={note.focus} class="note-place">
        {typeof note.place === "string" ? note.place : "here"} <span class="moment">{grouped(note.moment ?? "")}</span>
      </Link>
      {editing ? (
        <textarea
          rows={2}
          value={text}
          autoFocus
          aria-label="Text of the note"
          placeholder="What is it about this moment?"
          onInput={(event) => setText(event.currentTarget.value)}
          onBlur={done}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey) {
              event.preventDefault();
              done();
            }
          }}
        />
      ) : (
        <div
          class="note-text"
          title="Click to edit"
          onClick={(event) => {
            if (!(event.target as HTMLElement).closest("a")) setEditing(true);
          }}
        >
          {text ? <Marked text={text} /> : <span class="dim">Add a text</span>}
        </div>
      )}
      <span class="note-tools">
        {editing ? null : (
          <button type="button" class="text-button" onClick={() => setEditing(true)}>
            Edit
          </button>
        )}
        {COLOURS.map((it) => (
          <button
            type="button"
            key={it}
            class={note.colour === it ? "swatch chosen" : "swatch"}
            data-colour={it}
            title={`Mark it ${it}`}
            aria-pressed={note.colour === it}
            onClick={() => change({ colour: it })}
          />
        ))}
        <button type="button" class="icon-button" title="Remove this note" onClick={remove}>
          <Icon name="bin" />
        </button>
      </span>
    </div>
  );
}
