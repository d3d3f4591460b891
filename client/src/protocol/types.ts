// The nouns of docs/protocol.md. Moments are decimal strings, addresses hexadecimal ones.

export interface Focus {
  moment: string;
  task?: number;
  frame?: string | null;
}

/** Where a row leads: absent parts stay as they are. */
export interface Target {
  moment?: string;
  task?: number;
  frame?: string | null;
  data?: string | null;
}

export interface Place {
  address?: string;
  module?: string;
  function?: string;
  full?: string;
  file?: string;
  line?: number;
  column?: number;
  own?: boolean;
}

export interface Value {
  name?: string;
  type?: string;
  text?: string;
  path?: string;
  address?: string;
  size?: number;
  children?: number | null;
  badges?: string[];
  group?: string;
  scope?: number;
  shadowed?: boolean;
}

/** What every row may have. */
export interface Row {
  moment?: string;
  task?: number;
  focus?: Target;
  place?: Place;
  side?: "before" | "after";
}

export interface Failure {
  code: string;
  what: string;
  where?: string;
  try?: string;
}

export interface End {
  end: "complete" | "rows" | "deadline" | "cancelled" | "error" | "lost";
  matched?: string;
  exact?: boolean;
  before?: string | null;
  after?: string | null;
  times?: Record<string, number>;
  error?: Failure;
}

export interface Progress {
  checked: number;
  total: number;
  matched: number;
}

export interface Overview extends Row {
  program: string;
  arguments?: string[];
  directory?: string;
  instructions: string | number;
  sealed?: string;
  complete?: boolean;
  tasks?: number;
  processes?: number;
  exit?: string;
  start?: Target;
  identity?: string;
}

export interface State extends Row {
  focus: Target;
  event?: number | string;
  ticks?: number | string;
  tid?: number;
  next?: string;
  fault?: string | null;
}

export interface Task extends Row {
  task: number;
  tid: number;
  process?: number;
  parent?: number | null;
  name?: string;
  begin: string;
  end: string;
  exit?: string | null;
  runs?: (string | number)[];
}

export interface Frame extends Row {
  frame: string;
  function?: string;
  arguments?: Value[];
  entry?: string;
  exit?: string | null;
  kind?: string;
  depth?: number;
}

export interface Line {
  line: number;
  code?: boolean;
  mark?: "strong" | "weak";
  count?: number;
  run?: number | string;
  /** The count of the run is no more than about right. */
  about?: boolean;
  moment?: string | null;
  values?: { name: string; text: string; changed?: boolean }[];
  focus?: Target;
}

export interface SourceText {
  file?: string;
  text?: string;
  from?: string;
  tried?: string[];
}

export interface Execution extends Row {
  frame?: string;
  arguments?: Value[];
  exit?: string | null;
  left?: string;
  result?: Value | null;
  prints?: (Value & { failed?: string })[];
  failed?: string | null;
}

export interface Call extends Row {
  frame?: string;
  function?: string;
  arguments?: Value[];
  exit?: string | null;
  result?: Value | null;
  callees?: number;
}

export interface Access extends Row {
  old?: Value | string | null;
  new?: Value | string | null;
  by?: string;
  function?: string;
}

export interface Hop extends Row {
  depth?: number;
  kind: string;
  bytes?: [number, number];
  frame?: string;
  text?: string;
  value?: Value | string | null;
  /** The innermost place in the user's code, where `place` is not, and what was called there. */
  own?: Place;
  called?: string;
  /** What a store replaced. */
  old?: string;
  instruction?: string;
  operands?: { name: string; value?: Value | string; focus?: Target; data?: string }[];
  warning?: string | null;
}

export interface Output extends Row {
  descriptor: number;
  text?: string;
  bytes?: string;
  offset: number | string;
}

export interface Alert extends Row {
  rank?: number;
  kind: string;
  text: string;
  handled?: boolean;
}

export interface SystemCall extends Row {
  name: string;
  arguments?: string;
  result?: string;
  exit?: string;
  buffered?: boolean;
}

export interface Signal extends Row {
  name: string;
  /** Where it came from. */
  text?: string;
  disposition?: string;
  handler?: Place;
}

export interface Descriptor extends Row {
  descriptor: number;
  kind?: string;
  path?: string;
  mode?: string;
  /** Null: older than the recording. */
  opened: string | null;
  by?: string;
  closed?: string | null;
  read?: string;
  written?: string;
  description?: number;
}

export interface Found extends Row {
  kind: string;
  name: string;
  detail?: string;
  count?: number | string;
  score?: number;
}

export interface Step extends Row {
  left?: string | null;
}

export interface Bookmark extends Row {
  bookmark: number;
  text: string;
  colour?: string | null;
}
