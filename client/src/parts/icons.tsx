// Icons, drawn here: 16 by 16, in the colour of the text.

const PATHS = {
  back: "M10 3 5 8l5 5",
  forward: "m6 3 5 5-5 5",
  open: "m6 4 4 4-4 4",
  close: "m4 4 8 8m0-8-8 8",
  search: "M7 3a4 4 0 1 1 0 8 4 4 0 0 1 0-8m3 7 3.5 3.5",
  views: "M2.5 3.5h4v4h-4zm7 0h4v4h-4zm-7 6h4v4h-4zm7 0h4v4h-4z",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11z M8 2.5a5.5 5.5 0 0 1 0 11",
  note: "M4 2.5h8v11l-4-3-4 3z",
  alert: "M8 2.5 14 13H2zM8 6.5v3M8 11.2v.3",
  maximise: "M3 6V3h3m4 0h3v3m0 4v3h-3m-4 0H3v-3",
  add: "M8 3v10M3 8h10",
  bin: "M3 4.5h10M6 4V2.5h4V4m-5.5.5.5 9h6l.5-9",
  arrow: "M2 8h9m-4-4 4 4-4 4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
